"""Killed, refused or out of space at any system call: what was there before is still there, in full."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import save_once

from glassgpt.files import atomic
from glassgpt.files.atomic import SaveError, link, remove_litter, write_atomically, written_aside
from glassgpt.files.manifest import MANIFEST, verify_checkpoint
from glassgpt.settings import InputError

CHANGES = "mkdir,write,fsync,rename,symlink,unlink,unlinkat,rmdir"
"""The system calls that change the disk; Python makes none of them while it starts."""

needs_strace = pytest.mark.skipif(
    sys.platform != "linux" or (shutil.which("strace") is None and "CI" not in os.environ),
    reason="needs strace, which is Linux's",
)


def run_traced(folder: Path, way: str, *strace: str) -> subprocess.CompletedProcess[str]:
    tracer = ["strace", "-f", "-y", "-s", "0", "-o", str(folder / "trace"), *strace]
    script = [sys.executable, save_once.__file__, str(folder), way, "new"]
    return subprocess.run([*tracer, *script], capture_output=True, text=True, check=False)


def traced_calls(folder: Path) -> list[str]:
    lines = (folder / "trace").read_text().splitlines()
    return [line.split(maxsplit=1)[1] for line in lines if "+++" not in line and "---" not in line]


def fresh(folder: Path) -> Path:
    folder.mkdir()
    save_once.save(folder / "model", "direct", "old")
    write_atomically(folder / "run.json", b"old")
    link(folder / "best", "model")
    return folder


def state_of(folder: Path) -> tuple[str, str]:
    """The versions of the checkpoint and of the file; raises where one of them is torn."""
    verify_checkpoint(folder / "model")
    assert (folder / "model" / MANIFEST).is_file()
    versions = {path.read_text().split()[-1] for path in (folder / "model/trainer").iterdir()}
    versions.add((folder / "model" / "config.json").read_text().split()[-1])
    best = folder / "best"
    assert best.is_dir() or best.read_text() == "model\n"
    (version,) = versions
    return version, (folder / "run.json").read_text()


def every_call(tmp_path: Path, way: str, what: str) -> Iterator[tuple[Path, subprocess.CompletedProcess[str]]]:
    """Run the save once for each of its calls that change the disk, with `what` done to that call."""
    plain = fresh(tmp_path / "plain")
    assert run_traced(plain, way, "-e", f"trace={CHANGES}").returncode == 0
    seen: dict[str, int] = {}
    cases = []
    for line in traced_calls(plain):
        call = line.split("(")[0]
        seen[call] = seen.get(call, 0) + 1
        cases.append((call, seen[call]))
    assert len(cases) > (10 if way == "aside" else 5)

    def case(call: str, n: int) -> tuple[Path, subprocess.CompletedProcess[str]]:
        folder = fresh(tmp_path / f"{call}-{n}")
        return folder, run_traced(folder, way, "-e", f"trace={call}", "-e", f"inject={call}:{what}:when={n}")

    with ThreadPoolExecutor(2) as threads:
        yield from threads.map(lambda args: case(*args), cases)


@pytest.mark.thorough
@needs_strace
def test_a_kill_at_any_system_call_leaves_the_old_or_the_new_in_full(tmp_path: Path) -> None:
    states = set()
    for folder, ended in every_call(tmp_path, "aside", "signal=SIGKILL"):
        assert ended.returncode != 0
        remove_litter(folder)
        states.add(state_of(folder))
        names = {path.name for path in folder.iterdir()}
        assert names == {"model", "run.json", "best", "trace"}
    assert states == {("old", "old"), ("new", "old"), ("new", "new")}


@needs_strace
def test_without_the_rename_a_kill_leaves_torn_checkpoints(tmp_path: Path) -> None:
    n_torn = 0
    for folder, _ in every_call(tmp_path, "direct", "signal=SIGKILL"):
        try:
            state_of(folder)
        except (InputError, AssertionError, ValueError):
            n_torn += 1
    assert n_torn > 2


@pytest.mark.thorough
@needs_strace
def test_an_error_at_any_system_call_leaves_the_old_or_the_new_in_full(tmp_path: Path) -> None:
    n_refused = 0
    for folder, ended in every_call(tmp_path, "aside", "error=EIO"):
        assert state_of(folder) in {("old", "old"), ("new", "old"), ("new", "new")}
        assert "Traceback" not in ended.stderr
        if ended.returncode:  # tidying up may be refused without harm; litter then waits for the next start
            assert ended.returncode == 1
            n_refused += 1
            assert re.fullmatch(r"cannot save \S+: [^\n]+; what was saved before is unharmed\n", ended.stderr)
        remove_litter(folder)
        assert {path.name for path in folder.iterdir()} == {"model", "run.json", "best", "trace"}
    assert n_refused > 10


def order_mistakes(calls: list[str], folder: Path) -> list[str]:
    """What a trace of calls does in an order that a power cut could exploit."""
    unsynced: set[str] = set()
    renamed: set[str] = set()
    mistakes = []
    for call in calls:
        name, _, rest = call.partition("(")
        paths = re.findall(r'[<"]([^">]*)[">]', rest)
        if " = -1 " in call or not any(path.startswith(str(folder)) for path in paths):
            continue
        if name == "fsync":
            unsynced.discard(paths[0])
            renamed.discard(paths[0])
        elif name == "rename":
            mistakes += [f"{path} renamed before its fsync" for path in unsynced if path.startswith(paths[0])]
            renamed.add(str(Path(paths[1]).parent))
        else:
            mistakes += [f"{path} not synced after a rename" for path in renamed]
            if name == "write":
                unsynced.add(paths[0])
            elif name == "mkdir":
                unsynced |= {paths[0], str(Path(paths[0]).parent)}
    left = (unsynced - {str(folder)}) | renamed  # the folder itself counts only for its renames
    return mistakes + [f"{path} never synced" for path in left]


@needs_strace
def test_everything_is_on_the_disk_before_it_gets_its_name(tmp_path: Path) -> None:
    folder = fresh(tmp_path / "run")
    assert run_traced(folder, "aside", "-e", "trace=mkdir,write,fsync,rename,symlink").returncode == 0
    calls = traced_calls(folder)
    assert sum(call.startswith("rename") for call in calls) == 4
    assert order_mistakes(calls, folder) == []
    written = [call for call in calls if call.startswith("write") and "partial" in call]
    assert f"/{MANIFEST}" in written[-2], "the manifest is the last file of a checkpoint"
    for index in [index for index, call in enumerate(calls) if call.startswith("fsync")]:
        without = calls[:index] + calls[index + 1 :]
        assert order_mistakes(without, folder), f"the check misses the absence of {calls[index]}"


def test_an_error_of_the_caller_s_own_leaves_nothing(tmp_path: Path) -> None:
    def half_a_save() -> None:
        with written_aside(tmp_path / "model") as partial:
            (partial / "file").write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        half_a_save()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_was_being_replaced_gets_its_name_back(tmp_path: Path) -> None:
    (tmp_path / ".model.replaced-123").mkdir()
    (tmp_path / ".model.replaced-123/file").write_text("old")
    (tmp_path / ".model.partial-123").mkdir()
    (tmp_path / ".run.json.partial-9").write_text("half")
    (tmp_path / ".hidden").write_text("the user's own")
    remove_litter(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", "model"]
    assert (tmp_path / "model/file").read_text() == "old"


def test_where_links_are_refused_a_text_file_stands_for_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(1314, "A required privilege is not held by the client")

    link(tmp_path / "best", "step-00000001")
    monkeypatch.setattr(atomic.Path, "symlink_to", refuse)
    link(tmp_path / "best", "step-00000002")
    assert (tmp_path / "best").read_text() == "step-00000002\n"
    monkeypatch.undo()
    link(tmp_path / "best", "step-00000003")
    assert os.readlink(tmp_path / "best") == "step-00000003"


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SaveError, match=r"cannot save .*Not a directory; what was saved before is unharmed"):
        write_atomically(tmp_path / "file" / "inside", b"")
