"""`history.jsonl` as the page that the README and docs/ link their figures to: docs/figures.md.

    python benchmarks/figures.py

One row a line of the history, under the number of the line. A figure in a page names its row and its place there:

    [4.27 times](docs/figures.md#l20 "cases 384 glassgpt speed_ratio")

and tests/docs/test_evidence.py compares the number with what stands at that place.
"""

import json
from pathlib import Path
from typing import Any

import history

PAGE = Path(__file__).parents[1] / "docs" / "figures.md"
SETTINGS = {"rounds", "threads", "minutes", "peer_times", "options", "text", "runs"}
"""What `figures` holds that was given, not found, or that other keys sum up."""
HEAD = """# Figures

Written by `python benchmarks/figures.py`: every line of [`history.jsonl`](../benchmarks/history.jsonl), with the
command that measured it, when, at which commit, and on what. `load` is how busy the machine was in the minute before
the end: at most about as many as it has cores where nothing else ran. A figure in the README and in these pages links
to its row, and says in its title where in the line it stands; a test compares the two.

`PATH` is a checkout of nanoGPT. The contenders of one line were measured in turn in one run; between lines the machine
may have changed.

| line | measured by | found |
|---|---|---|
"""


def page(lines: list[dict[str, Any]]) -> str:
    """The whole page."""
    return HEAD + "".join(row(number, line) for number, line in enumerate(lines, start=1))


def row(number: int, line: dict[str, Any]) -> str:
    """One line of the history as a row of the table."""
    versions = ", ".join(f"{name} {line['versions'][name]}" for name in ("python", "torch"))
    where = f"{line['machine']['cpu']}, {line['machine']['cores']} cores, {line['machine']['system']}"
    load = f", load {line['machine']['load']}" if "load" in line["machine"] else ""
    when = f"{line['date'][:10]}, commit {line['commit']}"
    found = "<br>".join(f"{name}: {value}" for name, value in summary(line["figures"]))
    return (
        f'| <a id="l{number}"></a>[{number}](../benchmarks/history.jsonl#L{number}) '
        f"| `{line['command']}`<br>{when}, {where}{load}; {versions} | {found} |\n"
    )


def summary(figures: dict[str, Any], place: str = "") -> list[tuple[str, str]]:
    """(place, value) of each figure that is not a setting, in four digits; a median with its extremes."""
    rows: list[tuple[str, str]] = []
    for name, value in figures.items():
        here = f"{place} {name}".strip()
        if name in SETTINGS:
            continue
        if not isinstance(value, dict):
            rows.append((here, shown(value)))
        elif {"median", "min", "max"} <= value.keys():
            rows.append((here, f"{shown(value['median'])} ({shown(value['min'])} to {shown(value['max'])})"))
            rest = {key: inner for key, inner in value.items() if key not in ("median", "min", "max")}
            rows += summary(rest, here)
        else:
            rows += summary(value, here)
    return rows


def shown(value: Any) -> str:
    """A figure, or a list of them."""
    if isinstance(value, list):
        return ", ".join(map(shown, value))
    if isinstance(value, str | bool) or value is None:
        return str(value)
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def main() -> None:
    lines = [json.loads(line) for line in history.HISTORY.read_text(encoding="utf-8").splitlines()]
    PAGE.write_text(page(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
