"""Each parser of files from outside, fuzzed for seconds; `make fuzz` does the same for half an hour each."""

import importlib.util
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).with_name("fuzz.py")
SECONDS = 4
"""For each."""

if importlib.util.find_spec("atheris") is None and not os.environ.get("CI"):
    pytest.skip("atheris is not installed; it is there for Linux on x86-64", allow_module_level=True)


def fuzz(name: str, folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    # By way of a shell: a process counts the peak memory of what it was started from, here pytest, as its own.
    command = shlex.join([sys.executable, str(FUZZ), name, "--folder", str(folder), *flags])
    started = ["sh", "-c", f"{command}; exit $?"]
    return subprocess.run(started, capture_output=True, text=True, errors="replace", check=False)


@pytest.mark.thorough
def test_no_parser_fails_hangs_or_takes_much_memory(tmp_path: Path) -> None:
    from targets import TARGETS

    found = fuzz("all", tmp_path, "--seconds", str(SECONDS))
    assert found.returncode == 0, found.stdout[-10_000:] + found.stderr[-4000:]
    assert found.stdout.count("stat::number_of_executed_units") == len(TARGETS)


@pytest.mark.thorough
def test_a_parser_that_fails_is_found_and_its_input_kept(tmp_path: Path) -> None:
    found = fuzz("control", tmp_path, "--seconds", "60")
    assert found.returncode != 0
    assert "ZeroDivisionError" in found.stdout + found.stderr
    kept = next((tmp_path / "control").glob("found-*"))
    again = fuzz("control", tmp_path, "--input", str(kept))
    assert "ZeroDivisionError" in again.stderr
