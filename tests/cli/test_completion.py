"""What a shell completes, asked of the shells themselves."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from glassgpt.cli.main import app, run

WORDS = [
    ("glassgpt tr", {"train"}),
    ("glassgpt train --min", {"--minutes"}),
    ("glassgpt train --model.n-l", {"--model.n-layers"}),
    ("glassgpt train --model.architecture ", {"gpt2", "modern"}),
    ("glassgpt train --run.deterministic t", {"true"}),
    ("glassgpt train --preset modern-t", {"modern-tiny"}),
    ("glassgpt data ", {"prepare", "info", "verify"}),
    ("glassgpt data prepare --val", {"--val-fraction"}),
    ("glassgpt tokenizer train --min", set()),
    ("glassgpt plan modern-", {"modern-tiny", "modern-mini", "modern-small", "modern-medium", "modern-large"}),
    ("glassgpt generate --device cu", {"cuda"}),
    ("glassgpt inspect --lay", {"--layer"}),
]
ASKED = """
source {script}
COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _glassgpt; printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def script(shell: str, capsys: pytest.CaptureFixture[str], folder: Path) -> Path:
    assert run(["completion", shell]) == 0
    path = folder / f"completion.{shell}"
    path.write_text(capsys.readouterr().out)
    return path


def shell(name: str) -> str:
    """The program; without it, a reason to skip, except where the tests run for everybody."""
    found = shutil.which(name)
    if found is None and os.environ.get("CI") != "true":
        pytest.skip(f"{name} is not installed")
    assert found, f"{name} is not installed"
    return found


@pytest.mark.parametrize(("typed", "wanted"), WORDS)
def test_bash_completes(typed: str, wanted: set[str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = " ".join(f"'{word}'" for word in typed.split(" "))
    asked = ASKED.format(script=script("bash", capsys, tmp_path), words=words)
    found = subprocess.run([shell("bash"), "-c", asked], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert set(found.stdout.split()) == wanted
    assert found.stderr == ""


@pytest.mark.parametrize(("typed", "wanted"), WORDS)
def test_fish_completes(typed: str, wanted: set[str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    asked = f"source {script('fish', capsys, tmp_path)}; cd (mktemp -d); complete -C '{typed}'"
    found = subprocess.run([shell("fish"), "-c", asked], capture_output=True, text=True, check=True)
    assert {line.split("\t")[0] for line in found.stdout.splitlines()} == wanted
    assert found.stderr == ""


def test_zsh_reads_its_script(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    asked = f"autoload -U compinit && compinit -u -D; source {script('zsh', capsys, tmp_path)}; print $_comps[glassgpt]"
    found = subprocess.run([shell("zsh"), "-f", "-c", asked], capture_output=True, text=True, check=True)
    assert "_glassgpt" in found.stdout
    assert found.stderr == ""


def test_every_command_is_completed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    lines = script("bash", capsys, tmp_path).read_text().splitlines()
    for name in app:
        if not name.startswith("-"):
            assert any(line.strip().startswith((f"{name})", f"'{name} ")) for line in lines), name


def test_the_shell_is_taken_from_the_environment_or_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHELL", "/usr/bin/fish")
    assert run(["completion"]) == 0
    assert capsys.readouterr().out.startswith("complete -c glassgpt")
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    assert run(["completion"]) == 2
    assert "give bash, zsh or fish" in capsys.readouterr().err
