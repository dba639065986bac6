"""The README and the journeys do what they say: their own blocks are run, in order, in an empty folder.

A block of `sh` is run line by line, a block of `python` as one; a python block whose first line is `# NAME.py` is that
file. One thing is changed: the length of training (`shortened`). Blocks of other kinds are not run.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from glassgpt.cli.main import run
from glassgpt.text.stories import write_stories

pytestmark = pytest.mark.thorough

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "journeys").glob("*.md"))]
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.DOTALL | re.MULTILINE)

DOCUMENT = """<?xml version="1.0" encoding="UTF-8"?>
<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body>{}</w:body></w:document>"""


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory: the texts that the pages speak of, the examples, and a `glassgpt` to be found."""
    stories = write_stories(300, seed=3)
    (tmp_path / "book.txt").write_text("\n".join(stories), encoding="utf-8")
    (tmp_path / "other.txt").write_text("\n".join(stories[:40]), encoding="utf-8")
    (tmp_path / "novel").mkdir()
    (tmp_path / "novel" / "chapter-01.txt").write_text("\n".join(stories[:150]), encoding="utf-8")
    write_docx(tmp_path / "novel" / "chapter-02.docx", stories[150:])
    write_docx(tmp_path / "chapter-03.docx", stories[:20])
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    commands = tmp_path / "bin"
    commands.mkdir()
    (commands / "glassgpt").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m glassgpt "$@"\n')
    (commands / "glassgpt").chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("glassgpt.api.texts.DEFAULT_CACHE", tmp_path / "cache")
    for command in ("plan", "train"):  # else minutes would count from the start of the tests
        monkeypatch.setattr(f"glassgpt.cli.{command}.began", time.perf_counter)


def write_docx(path: Path, paragraphs: list[str]) -> None:
    """The least that is a .docx: one paragraph of text each."""
    body = "".join(f"<w:p><w:r><w:t>{paragraph.strip()}</w:t></w:r></w:p>" for paragraph in paragraphs)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", DOCUMENT.format(body))


def shortened(source: str) -> str:
    """The one change: a step for ten minutes or for 500 steps, and at least one; two seeds for any number of them."""

    def shorter(found: re.Match[str]) -> str:
        before, unit, sign, number = found.groups()
        if unit == "seeds":
            return f"{before}seeds{sign}2"
        return f"{before}steps{sign}{max(1, int(number) // (10 if unit == 'minutes' else 500))}"

    lines = source.splitlines()
    return "\n".join(
        line if "glassgpt plan" in line else re.sub(r"(--|\b)(minutes|steps|seeds)([ =])(\d+)\b", shorter, line)
        for line in lines
    )


def run_line(line: str) -> int:
    """One line of a block: GlassGPT's own commands in this process, for their start takes longest; others by sh."""
    words = shlex.split(line, comments=True)
    if words[0] == "glassgpt" and words[1] != "chat" and not set(words) & {"|", ">", "<"}:
        return run(words[1:])
    return subprocess.run(["sh", "-c", line], input=b"Once there was\n", check=False).returncode


def run_block(kind: str, source: str, names: dict[str, Any]) -> None:
    """Run a block, or make the file that it shows."""
    if kind == "python":
        if named := re.match(r"# (\w+\.py)\n", source):
            Path(named[1]).write_text(source, encoding="utf-8")
        else:
            exec(compile(shortened(source), "block", "exec"), names)
        return
    for line in filter(None, shortened(source).replace("\\\n", " ").splitlines()):
        assert run_line(line) == 0, line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_does_what_it_says(page: Path) -> None:
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    assert len(blocks) >= 3
    names: dict[str, Any] = {}
    for kind, source in blocks:
        run_block(kind, source, names)
    assert any(path.name == "model.safetensors" for path in Path("runs").rglob("*")), "a journey ends with a model"


def test_a_line_that_fails_fails_the_page() -> None:
    with pytest.raises(AssertionError, match=r"glassgpt train missing\.txt"):
        run_block("sh", "glassgpt plan gpt2-small\nglassgpt train missing.txt --minutes 5\n", {})
    with pytest.raises(ZeroDivisionError):
        run_block("python", "1 / 0\n", {})


def test_only_the_length_of_training_is_changed() -> None:
    assert shortened("glassgpt train a --minutes 20 --seed 1") == "glassgpt train a --steps 2 --seed 1"
    assert shortened("glassgpt compare --steps 500 --seeds 5") == "glassgpt compare --steps 1 --seeds 2"
    assert shortened('glassgpt.train("a", minutes=5)') == 'glassgpt.train("a", steps=1)'
    for line in ("glassgpt plan a --minutes 10", "glassgpt generate --top-k 5 --seed 7", "glassgpt doctor"):
        assert shortened(line) == line


def test_every_page_of_the_journeys_is_named_by_the_readme() -> None:
    readme = PAGES[0].read_text(encoding="utf-8")
    assert [page for page in PAGES[1:] if f"docs/journeys/{page.name}" not in readme] == []
