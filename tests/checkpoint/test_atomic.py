"""Files and folders are there in full or not at all; tests/faults kills and hinders them at every system call."""

import os
import signal
from pathlib import Path

import forked
import pytest
from forked import needs_fork

from glassgpt.files import atomic
from glassgpt.files.atomic import SaveError, append_line, link, remove_litter, write_atomically, written_aside


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


@needs_fork
def test_a_line_that_cannot_be_added_in_full_is_taken_back(tmp_path: Path) -> None:
    def half_a_line() -> None:
        import resource  # which Windows lacks

        append_line(tmp_path / "log", "first\n")
        room = (tmp_path / "log").stat().st_size + 3
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
        with pytest.raises(SaveError, match=r"cannot save .*log: File too large"):
            append_line(tmp_path / "log", "second\n")

    forked.run(half_a_line)
    append_line(tmp_path / "log", "third\n")
    assert (tmp_path / "log").read_text() == "first\nthird\n"
