"""Where a text is prepared: one process a folder, nothing left behind, all of it on the disk before it has its name."""

import io
import os
import time
from pathlib import Path

import forked
import pytest
from forked import needs_fork

from glassgpt.api.texts import lasting
from glassgpt.config import DataConfig
from glassgpt.data.prepare import prepare
from glassgpt.data.working_folder import PROGRESS, WEEK, WORKING, remove_abandoned, working_folder
from glassgpt.settings import InputError
from glassgpt.text.corpus import Corpus
from glassgpt.text.documents import ReadOptions, read_documents
from glassgpt.text.stories import write_stories

TEXTS = ["\n".join(write_stories(12, seed=seed)) for seed in range(20)]
BYTES = DataConfig(tokenizer="bytes")


def interrupted(cache: Path, long: int = 0) -> None:
    """A preparation that ends in its middle, as by Ctrl-C."""

    def phase(what: str) -> None:
        if what.endswith("50 % done"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(Corpus.of(TEXTS), BYTES, cache, 1, phase, long=long, n_bytes=5000)


@needs_fork
def test_a_folder_that_another_process_works_in_is_left_to_it(tmp_path: Path) -> None:
    interrupted(tmp_path)
    [theirs] = tmp_path.iterdir()
    progress = (theirs / PROGRESS).read_bytes()
    ready, told = os.pipe()

    def hold() -> None:
        with working_folder(tmp_path / theirs.name.removeprefix(WORKING), PROGRESS):
            os.write(told, b"x")
            time.sleep(60)

    child = forked.start(hold)
    os.read(ready, 1)
    said: list[str] = []
    prepared = prepare(Corpus.of(TEXTS), BYTES, tmp_path, 1, said.append)
    forked.kill(child)
    assert said == ["tokenising the text"]
    assert {path.name for path in tmp_path.iterdir()} == {theirs.name, prepared.hash}
    assert (theirs / PROGRESS).read_bytes() == progress


def test_who_comes_second_keeps_what_the_first_has_made(tmp_path: Path) -> None:
    first = prepare(Corpus.of(TEXTS), BYTES, tmp_path)
    written = (first.directory / "train.shard").stat().st_ino
    with working_folder(first.directory, "prepared.json") as folder:
        (folder / "train.shard").write_bytes(b"")
    assert (first.directory / "train.shard").stat().st_ino == written
    assert [path.name for path in tmp_path.iterdir()] == [first.hash]


def test_where_there_are_no_locks_a_text_is_prepared_in_a_folder_that_no_other_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glassgpt.data.working_folder.HAS_LOCKS", False)
    interrupted(tmp_path)
    assert [*tmp_path.iterdir()] == []
    prepared = prepare(Corpus.of(TEXTS), BYTES, tmp_path, long=0, n_bytes=5000)
    assert [path.name for path in tmp_path.iterdir()] == [prepared.hash]
    assert not (prepared.directory / PROGRESS).exists()


@needs_fork
def test_what_nobody_came_back_to_for_a_week_goes_unless_it_is_worked_in(tmp_path: Path) -> None:
    for name in ("old", "new", "held"):
        (tmp_path / f"{WORKING}{name}").mkdir()
        (tmp_path / f"{WORKING}{name}" / "train.shard").write_bytes(b"ids")
    (tmp_path / f"{WORKING}stdin-1").write_bytes(b"text")
    (tmp_path / "stdin-1.txt").write_bytes(b"text")
    with working_folder(tmp_path / "held", "train.shard"):
        for path in tmp_path.iterdir():
            age = WEEK - 100 if path.name.endswith("new") else WEEK + 100
            os.utime(path, (time.time() - age,) * 2)
        remove_abandoned(tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == {f"{WORKING}new", f"{WORKING}held", "stdin-1.txt"}


def test_a_preparation_removes_what_was_abandoned_of_other_texts(tmp_path: Path) -> None:
    (tmp_path / f"{WORKING}old").mkdir()
    os.utime(tmp_path / f"{WORKING}old", (1, 1))
    prepared = prepare(Corpus.of(TEXTS), BYTES, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [prepared.hash]


@needs_fork
def test_a_text_that_somebody_comes_back_to_after_a_week_is_gone_on_with(tmp_path: Path) -> None:
    interrupted(tmp_path)
    [folder] = tmp_path.iterdir()
    os.utime(folder, (1, 1))
    said: list[str] = []
    prepare(Corpus.of(TEXTS), BYTES, tmp_path, 1, said.append, long=0, n_bytes=5000)
    assert said[0].startswith("going on with the text at ")


def test_every_file_and_folder_is_forced_to_the_disk_before_the_next_thing_depends_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    real_sync, real_replace = os.fsync, os.replace

    def fsync(descriptor: int) -> None:
        real_sync(descriptor)
        same = (path for path in [tmp_path, *tmp_path.rglob("*")] if path.stat().st_ino == os.fstat(descriptor).st_ino)
        done.append(f"sync {next(same).name}")

    def replace(old: Path, new: Path) -> None:
        real_replace(old, new)
        done.append(f"rename {Path(old).name}")

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    name = prepare(Corpus.of(TEXTS), BYTES, tmp_path).hash
    files = {"train.shard", "val.shard", "tokenizer.json", "tokenizer_config.json", "prepared.json"}
    assert {*done[:5]} == {f"sync {file}" for file in files}, done
    assert done[4] == "sync prepared.json"
    assert done[5:] == [f"sync {WORKING}{name}", f"rename {WORKING}{name}", f"sync {tmp_path.name}"]


def test_a_cache_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(InputError, match=r"cannot write to .*cache: Not a directory; choose another cache folder"):
        prepare(Corpus.of(TEXTS), BYTES, tmp_path / "file" / "cache")


def test_standard_input_is_kept_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading = read_documents(["-"], ReadOptions(folder=tmp_path), stdin=io.BytesIO(b"a text of mine"))
    kept = Path(lasting("-", reading, tmp_path))
    assert kept.read_bytes() == b"a text of mine"
    assert lasting("-", reading, tmp_path) == str(kept)
    kept.unlink()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"cannot keep the text in .*: No space left on device"):
        lasting("-", reading, tmp_path)
    assert [*tmp_path.iterdir()] == []
