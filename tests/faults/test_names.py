"""Names of files that are no UTF-8, or hold what would mean something to a terminal."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TRAIN = ["--steps", "1", "--tokenizer", "bytes", "--model.context-length", "8", "--data.cache", "cache"]
needs_byte_names = pytest.mark.skipif(sys.platform != "linux", reason="only here a name may be any bytes")


def told(folder: Path, *arguments: str | bytes) -> tuple[int, str]:
    """Exit code and standard error, in a UTF-8 locale."""
    command = [sys.executable, "-m", "glassgpt", *arguments]
    environment = os.environ | {"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "utf-8:strict"}
    found = subprocess.run(command, capture_output=True, cwd=folder, env=environment, check=False)
    found.stdout.decode()
    return found.returncode, found.stderr.decode()


@pytest.mark.thorough
@needs_byte_names
def test_a_text_whose_name_cannot_be_recorded_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff.txt")).write_text("some text of mine. " * 200)
    code, err = told(tmp_path, "train", b"\xff.txt", *TRAIN)
    assert (code, err) == (2, f"glassgpt: {err.removeprefix('glassgpt: ').strip()}\n")
    assert r"\udcff.txt" in err
    assert "rename it" in err
    assert not (tmp_path / "runs").exists()


@pytest.mark.thorough
@needs_byte_names
def test_a_run_is_given_no_name_that_its_weights_could_not_be_opened_under(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("some text of mine. " * 200)
    code, err = told(tmp_path, "train", "text.txt", *TRAIN, "--out", b"a\xff")
    assert code == 2
    assert err.endswith(r"--out a\udcff is no UTF-8, and safetensors opens no such path: choose another name" + "\n")
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["cache"]


@needs_byte_names
@pytest.mark.thorough
def test_a_run_may_lie_in_a_folder_of_two_lines_but_a_prompt_must_be_utf_8(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("some text of mine. " * 200)
    assert told(tmp_path, "train", "text.txt", *TRAIN, "--out", "a\nb")[0] == 0
    code, err = told(tmp_path, "generate", "a\nb", "--max-new-tokens", "2", "--prompt", "ÿ")
    assert code == 0, err
    code, err = told(tmp_path, "generate", "a\nb", "--prompt", b"\xff")
    assert (code, err) == (2, "glassgpt: the prompt is not valid UTF-8: give it as UTF-8 text\n")


@needs_byte_names
def test_a_name_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    code, err = told(tmp_path, "generate", "\x1b[2Ja\nb")
    assert code == 2
    assert err == "glassgpt: no directory \\x1b[2Ja\\nb: give a run, a checkpoint or a model directory\n"
