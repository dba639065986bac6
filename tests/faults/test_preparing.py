"""The preparation of a text is killed anywhere, or loses power: the next one gives the same bytes, and goes on."""

import contextlib
import ctypes
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forked
import pytest
from forked import needs_fork

from glassgpt.config import DataConfig
from glassgpt.data.prepare import prepare
from glassgpt.data.shards import ShardWriter, Written
from glassgpt.data.working_folder import WORKING
from glassgpt.files.atomic import SaveError
from glassgpt.settings import InputError
from glassgpt.text.corpus import Corpus
from glassgpt.text.stories import write_stories

PORTION = 5_000
"""Bytes after which progress is recorded here."""
Change = Callable[[pytest.MonkeyPatch], None]
Files = dict[str, bytes]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """Documents of some thousand bytes each, about ten portions in all."""
    return ["\n".join(write_stories(12, seed=seed)) for seed in range(30)]


@pytest.fixture(scope="module")
def whole(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Files:
    """What an uninterrupted preparation gives, not in portions at all."""
    cache = tmp_path_factory.mktemp("whole")
    prepare(Corpus.of(texts), DataConfig(tokenizer="chars"), cache, 1)
    return files_of(cache)


def files_of(cache: Path) -> Files:
    return {str(path.relative_to(cache)): path.read_bytes() for path in cache.rglob("*") if path.is_file()}


def prepare_long(texts: list[str], cache: Path, said: list[str] | None = None) -> None:
    """Prepare the texts as if they were long; `said` gets the phases."""
    tell = said.append if said is not None else lambda what: None
    prepare(Corpus.of(texts), DataConfig(tokenizer="chars"), cache, 1, tell, long=0, n_bytes=PORTION)


def watch(n: int | None) -> Callable[[], int]:
    """Kill this process at the n-th beginning or end of a call to the interpreter's or the system's functions."""
    n_calls = 0

    def hook(frame: Any, event: str, called: Any) -> None:
        nonlocal n_calls
        n_calls += event in ("c_call", "c_return")
        if n_calls == n:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(hook)
    return lambda: n_calls


@pytest.fixture(scope="module")
def n_calls(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> int:
    """How many there are in a whole preparation, about."""
    cache = tmp_path_factory.mktemp("counted")
    count = watch(None)
    prepare_long(texts, cache)
    sys.setprofile(None)
    return count()


def keep_synced(cache: Path, kept: Path) -> None:
    """From now on whatever is forced to the disk is copied to `kept`, under the number of its file."""
    real = os.fsync

    def fsync(descriptor: int) -> None:
        real(descriptor)
        number = os.fstat(descriptor).st_ino
        for path in cache.rglob("*"):
            if path.is_file() and path.stat().st_ino == number:
                (kept / str(number)).write_bytes(path.read_bytes())

    os.fsync = fsync


def lose_power(cache: Path, kept: Path) -> None:
    """Leave of each file what was forced to the disk; all names survive, which is the worst case."""
    for path in cache.rglob("*"):
        if path.is_file():
            copy = kept / str(path.stat().st_ino)
            path.write_bytes(copy.read_bytes() if copy.exists() else b"")


def without_sync(patch: pytest.MonkeyPatch) -> None:
    """Progress is recorded without its ids being on the disk."""

    def sync(self: ShardWriter) -> Written:
        self._file.flush()
        return Written(self._n_ids, self._digest.hexdigest())

    patch.setattr(ShardWriter, "sync", sync)


def without_comparison(patch: pytest.MonkeyPatch) -> None:
    """Ids that are there already are gone on with, whatever they are."""

    def go_on(self: ShardWriter, begun: Written) -> None:
        end = 64 + begun.n_ids * self._dtype.itemsize
        self._file.truncate(end)
        self._file.seek(64)
        self._digest.update(self._file.read())
        self._n_ids = begun.n_ids

    patch.setattr(ShardWriter, "_go_on", go_on)


def interrupted(texts: list[str], place: Path, at: int, *changes: Change) -> tuple[Files, list[str]]:
    """What comes of a preparation that loses power at a call and is repeated, and what the second one says."""
    cache, kept, said = place / "cache", place / "kept", list[str]()
    for folder in (cache, kept):
        folder.mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        for change in changes:
            change(patch)

        def first() -> None:
            keep_synced(cache, kept)
            watch(at)
            prepare_long(texts, cache)

        child = forked.start(first)
        os.waitpid(child, 0)
        lose_power(cache, kept)
        prepare_long(texts, cache, said)
    return files_of(cache), said


def went_on(said: list[str]) -> bool:
    return any(line.startswith("going on with the text at") for line in said)


@pytest.mark.thorough
@needs_fork
def test_a_preparation_killed_anywhere_is_repeated_byte_for_byte(
    texts: list[str], whole: Files, n_calls: int, tmp_path: Path, amount: Callable[[int, int], int], tally: Any
) -> None:
    chance, failures, n_gone_on = random.Random(1), 0, 0
    places = [chance.randrange(1, n_calls) for _ in range(amount(10, 200))]
    for number, at in enumerate(places):
        found, said = interrupted(texts, tmp_path / str(number), at)
        failures += found != whole
        n_gone_on += went_on(said)
    bad = 0
    controls = places[: amount(8, 40)]
    for number, at in enumerate(controls):
        bare = tmp_path / f"bare-{number}"
        found, _ = interrupted(texts, bare, at, without_sync, without_comparison)
        bad += found != whole
    tally(
        "R1", "power lost in the preparation of a long text", len(places), failures,
        control=f"neither synced nor compared: {bad} of {len(controls)} wrong",
    )  # fmt: skip
    assert failures == 0
    assert n_gone_on > len(places) // 3
    assert bad > len(controls) // 3


@needs_fork
def test_ids_that_are_not_as_they_were_recorded_are_not_gone_on_with(
    texts: list[str], whole: Files, n_calls: int, tmp_path: Path
) -> None:
    found, said = interrupted(texts, tmp_path / "sound", n_calls // 2)
    assert found == whole
    assert went_on(said)
    found, said = interrupted(texts, tmp_path / "lost", n_calls // 2, without_sync)
    assert found == whole
    assert not went_on(said), "begun anew, since the ids are gone"


@pytest.mark.thorough
def test_every_flipped_bit_of_an_unfinished_preparation_costs_time_alone(
    texts: list[str], whole: Files, tmp_path: Path, amount: Callable[[int, int], int], tally: Any
) -> None:
    """Interrupted as by Ctrl-C, in the middle of the text."""
    chance = random.Random(2)

    def differ(n: int) -> int:
        """How often a flipped bit led to other bytes."""
        n_different = 0
        for _ in range(n):
            interrupt(texts, tmp_path, "tokenising the text, 50 % done")
            [folder] = tmp_path.iterdir()
            path = chance.choice(sorted(folder.iterdir()))
            content = bytearray(path.read_bytes())
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
            path.write_bytes(content)
            with contextlib.suppress(InputError):  # of the control: a shard with an id that there is not
                prepare_long(texts, tmp_path)
            n_different += files_of(tmp_path) != whole
            shutil.rmtree(next(tmp_path.iterdir()))
        return n_different

    trials, controls = amount(4, 100), amount(8, 30)
    failures = differ(trials)
    with pytest.MonkeyPatch.context() as patch:
        without_comparison(patch)
        bad = differ(controls)
    tally(
        "R4", "flipped bits in an unfinished preparation", trials, failures,
        control=f"ids not compared: {bad} of {controls} gone on with",
    )  # fmt: skip
    assert failures == 0
    assert bad > 0


def interrupt(texts: list[str], cache: Path, at: str, *, long: int = 0) -> list[str]:
    """Prepare until the phase `at` is told; returns those before."""
    said: list[str] = []

    def phase(what: str) -> None:
        said.append(what)
        if what == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(Corpus.of(texts), DataConfig(tokenizer="chars"), cache, 1, phase, long=long, n_bytes=PORTION)
    return said


def test_of_an_interrupted_long_text_only_the_folder_to_go_on_with_stays(texts: list[str], tmp_path: Path) -> None:
    interrupt(texts, tmp_path, "tokenising the text, 50 % done")
    [folder] = tmp_path.iterdir()
    assert folder.name.startswith(WORKING)
    said: list[str] = []
    prepare_long(texts, tmp_path, said)
    assert said[0].startswith("going on with the text at 4")
    assert "learning the vocabulary" not in said
    assert [path.name for path in tmp_path.iterdir()] == [folder.name.removeprefix(WORKING)]


def test_of_an_interrupted_short_text_nothing_stays(texts: list[str], tmp_path: Path) -> None:
    interrupt(texts, tmp_path, "tokenising the text", long=10**9)
    assert [*tmp_path.iterdir()] == []


@pytest.mark.skipif(
    sys.platform != "linux" or (os.geteuid() != 0 and "CI" not in os.environ),
    reason="mounting a small tmpfs needs root on Linux",
)
def test_a_full_disk_is_one_line_and_with_room_again_the_text_is_gone_on_with(
    texts: list[str], whole: Files, tmp_path: Path
) -> None:
    def mount(options: str) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(tmp_path)], check=True)

    def fill() -> None:
        clone_newns = 0x20000  # mounts of our own, which end with this process
        assert ctypes.CDLL(None, use_errno=True).unshare(clone_newns) == 0
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        mount("size=1m")
        said: list[str] = []
        for size in (40, 60, 80, 100, 120):
            mount(f"remount,size={size}k")
            with pytest.raises((InputError, SaveError), match=r"cannot .*No space left on device") as refused:
                prepare_long(texts, tmp_path, said)
            assert "\n" not in str(refused.value)
            assert all(path.name.startswith(WORKING) for path in tmp_path.iterdir())
        mount("remount,size=1m")
        prepare_long(texts, tmp_path, said)
        assert went_on(said)
        assert files_of(tmp_path) == whole

    forked.run(fill)
