"""No figure without its evidence: each measured number in the README and docs/ names the measurement that it is from.

A figure is written [4.27 times](docs/figures.md#l20 "cases 384 glassgpt speed_ratio"): the row of the page of all
measurements, which is line 20 of benchmarks/history.jsonl, and its place in that line's figures. "A / B" in the title
is the ratio of two. Any other number with a unit of measurement, or with a decimal point, is refused, except in code
and where EXCEPTIONS says what it is.

docs/log.md tells of tries, some of states that no command brings back; so it is no evidence, and instead each of its
days names commands and the machine. docs/figures.md is written from the history.
"""

import importlib
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
LINES = [json.loads(line) for line in (ROOT / "benchmarks" / "history.jsonl").read_text(encoding="utf-8").splitlines()]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in PAGES if page.name not in ("log.md", "figures.md")]

EXCEPTIONS = {
    "95 %": "the interval that compare reports, by definition",
    "p < 0.01": "the level at which compare gives a verdict, by definition",
}
"""Text -> what it is, where it is no measurement."""

BASE = {"min": 60, "minutes": 60, "h": 3600, "%": 0.01, "kB": 1e3, "MB": 1e6, "GB": 1e9}
"""What one of a unit is in the unit of the history, where they differ: seconds, shares, bytes."""
UNITS = (
    r"(?:[mµ]s|s|seconds?|min|minutes?|h|hours?|(?:k |M )?tokens/s|tokens a second|tok/s|[kMG]i?B(?:/s)?|bytes|%|times"
    r"|x|×|percent|words (?:a|per) second|bits per byte|bpb|nats|[GT]FLOP/s)(?![\w/])"
)
NUMBER = r"(?<![\w.,#-])\d[\d,]*(?:\.\d+)?"
FIGURE = re.compile(
    rf"{NUMBER}[ \u00a0-]?{UNITS}|(?<![\w.])\d+\.\d+|\w+ times (?:as|faster|slower|smaller|larger)\b"
    r"|\b(?:twice|half) (?:as (?:fast|slow|large|small|long)|the (?:memory|time|speed|size))\b"
    r"|\borders? of magnitude\b",
    re.IGNORECASE,
)
LINK = re.compile(r'\[(?P<shown>[^\]]*)\]\((?P<target>[^)\s]+)(?:\s+"(?P<place>[^"]*)")?\)', re.DOTALL)
EVIDENCE = re.compile(r"(?:.*/)?figures\.md#l(\d+)")
CODE = re.compile(r"^```.*?^```|`[^`]*`", re.DOTALL | re.MULTILINE)
VERSION = re.compile(r"\b(?:Python|PyTorch|torch|transformers|GlassGPT) \d+(?:\.\d+)+")


def complaints(text: str, lines: list[dict[str, Any]]) -> list[str]:
    """What is wrong with the figures of a page; nothing where each has its evidence."""
    wrong = []
    text = VERSION.sub("", CODE.sub("", text))
    for link in LINK.finditer(text):
        if evidence := EVIDENCE.fullmatch(link["target"]):
            wrong += refuted(" ".join(link["shown"].split()), int(evidence[1]), link["place"], lines)
    without = LINK.sub(lambda link: "" if EVIDENCE.fullmatch(link["target"]) else link["shown"], text)
    for exception in EXCEPTIONS:
        without = without.replace(exception, "")
    return wrong + [f"{figure} has no evidence" for figure in FIGURE.findall(without)]


def refuted(shown: str, number: int, place: str | None, lines: list[dict[str, Any]]) -> list[str]:
    """Why line `number` does not show what is claimed of it; nothing where it does."""
    if not 1 <= number <= len(lines):
        return [f"{shown}: the history has no line {number}"]
    line = lines[number - 1]
    script = line["command"].split()[1] if len(line.get("command", "").split()) > 1 else ""
    if not (ROOT / script).is_file():
        return [f"{shown}: no command measures line {number} again"]
    if not (found := re.search(rf"({NUMBER})\s*(.*)", shown)) or place is None:
        return [f"{shown}: one number and, in the title, its place in line {number}"]
    digits, unit = found[1].replace(",", ""), found[2]
    values = [figure_at(part.split(), line["figures"]) for part in place.split(" / ")]
    if None in values or len(values) > 2:
        return [f"{shown}: line {number} has no figure at {place!r}"]
    value = values[0] / (values[1] if len(values) == 2 else 1)
    half = 0.5 * 10.0 ** -len(digits.partition(".")[2])
    if abs(value / BASE.get(unit, 1) - float(digits)) > half * 1.001:
        return [f"{shown}: line {number} says {value:g}"]
    return []


def figure_at(place: list[str], figures: Any) -> float | None:
    """The number at a place: keys and indices, one after the other."""
    for key in place:
        if isinstance(figures, list) and key.isdigit() and int(key) < len(figures):
            figures = figures[int(key)]
        elif isinstance(figures, dict) and key in figures:
            figures = figures[key]
        else:
            return None
    return figures if isinstance(figures, int | float) else None


def script(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A script of benchmarks/, imported."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module(name)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_figure_is_what_a_line_of_the_history_says(page: Path) -> None:
    assert complaints(page.read_text(encoding="utf-8"), LINES) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("It takes 72 s.", "72 s has no evidence"),
        ("Half of it, 0.87, is ours.", "0.87 has no evidence"),
        ("Three times faster than before.", "Three times faster has no evidence"),
        ("It is twice as fast as before.", "twice as fast has no evidence"),
        ("Half the memory of others.", "Half the memory has no evidence"),
        ("An order of magnitude faster.", "order of magnitude has no evidence"),
        ("It costs 20 percent less.", "20 percent has no evidence"),
        ("Up to 12 GB/s, 4x, 90 % and 1,200 tokens/s.", "12 GB/s has no evidence"),
        ("[72 s](docs/log.md#2026) of it", "72 s has no evidence"),
        ('[4.27 times](docs/figures.md#l1 "cases 8m ratio")', "line 1 says 4.5"),
        ('[4.5 times](docs/figures.md#l1 "cases 8m speed")', "no figure at 'cases 8m speed'"),
        ('[4.5 times](docs/figures.md#l9 "cases 8m ratio")', "no line 9"),
        ("[4.5 times](docs/figures.md#l1)", "in the title, its place"),
        ('[4.5 times](docs/figures.md#l2 "cases 8m ratio")', "no command measures line 2"),
        ('[2 times](docs/figures.md#l1 "wall_s 0 / wall_s 1")', "line 1 says 3"),
        ('[2.5 min](docs/figures.md#l1 "wall_s 0")', "line 1 says 180"),
    ],
)
def test_a_figure_without_evidence_is_refused(text: str, says: str) -> None:
    figures = {"cases": {"8m": {"ratio": 4.5}}, "wall_s": [180, 60]}
    lines = [{"command": "python benchmarks/train_speed.py", "figures": figures}, {"figures": figures}]
    assert any(says in complaint for complaint in complaints(text, lines))


def test_figures_with_evidence_and_what_is_no_figure_pass() -> None:
    figures = {"cases": {"8m": {"ratio": 4.5}}, "wall_s": [180, 60], "peak_bytes": 2_776_895_488}
    lines = [{"command": "python benchmarks/train_speed.py", "figures": figures}]
    text = """
        [4.5 times](docs/figures.md#l1 "cases 8m ratio") and [3 min](figures.md#l1 "wall_s 0"), which is
        [3.0 times](../figures.md#l1 "wall_s 0 / wall_s 1"); [2.8 GB](figures.md#l1 "peak_bytes"); `--minutes 10 min`;
        GPT-2 has 12 layers, Python 3.11, and a 95 % interval.
    """
    assert complaints(text, lines) == []


def test_every_exception_is_still_needed() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert [exception for exception in EXCEPTIONS if exception not in text] == []


def test_every_line_of_the_history_names_its_command_machine_and_day() -> None:
    for line in LINES:
        assert line["command"].startswith("python benchmarks/")
        assert line["machine"]["cpu"]
        assert line["date"][:2] == "20"


def test_the_page_of_figures_is_what_the_history_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = script("figures", monkeypatch)
    assert figures.PAGE.read_text(encoding="utf-8") == figures.page(LINES), "python benchmarks/figures.py writes it"


def test_a_new_line_records_its_command_without_the_places_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = tmp_path / "a.txt"
    text.touch()
    called = [str(tmp_path / "speed.py"), "--nanogpt", str(tmp_path), f"--text={text}", "--minutes", "2"]
    monkeypatch.setattr("sys.argv", called)
    line = script("history", monkeypatch).append("speed", {"ms": 1}, tmp_path / "history.jsonl")
    assert line["command"] == "python benchmarks/speed.py --nanogpt PATH --text=a.txt --minutes 2"
    assert json.loads((tmp_path / "history.jsonl").read_text()) == line


def test_each_day_of_the_log_names_commands_and_the_machine() -> None:
    log = (ROOT / "docs" / "log.md").read_text(encoding="utf-8")
    head, *days = re.split(r"^## (?=\d{4}-)", log, flags=re.MULTILINE)
    assert days
    for day in days:
        assert re.search(r"`(?:python benchmarks/|glassgpt |make )[^`]+`", day), day[:10]
        assert re.search(r"AMD|Intel|Apple|NVIDIA", head + day), day[:10]
