"""Pictures of `history.jsonl` for docs/: quality_per_minute.svg and decode.svg.

    python benchmarks/pictures.py

Bits per byte over minutes of wall clock, a panel a text: of ours every run, of the others the best learning rate.
Tokens a second of the newest run of benchmarks/decode.py that has ours and theirs, a panel a case, with their extremes.
"""

import json
from collections import defaultdict
from pathlib import Path

import matplotlib
from history import HISTORY

matplotlib.use("svg")
from matplotlib import pyplot

DOCS = Path(__file__).parents[1] / "docs"
COLOURS = {"glassgpt": "#0072b2", "nanogpt": "#d55e00", "transformers": "#009e73", "litgpt": "#cc79a7"}


def points() -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Text -> tool -> (minutes, bits per byte)."""
    found: dict[str, dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for line in map(json.loads, HISTORY.read_text().splitlines()):
        figures = line["figures"]
        if line["benchmark"] != "quality_per_minute" or figures["minutes"] < 0.5:
            continue
        for tool in COLOURS.keys() & figures.keys():
            minutes = figures["minutes"] * (1 if tool == "glassgpt" else figures["peer_times"])
            scores = [run["bpb"] for run in figures[tool]["runs"]]
            scores = scores if tool == "glassgpt" else [min(scores)]
            found[figures["text"]][tool] += [(minutes, score) for score in scores]
    return found


def decode() -> None:
    lines = map(json.loads, HISTORY.read_text(encoding="utf-8").splitlines())
    runs = [line["figures"] for line in lines if line["benchmark"] == "decode"]
    cases = ("decode", "prefill", "batch")
    whole = [run for run in runs if all("glassgpt-int8" in run.get(case, {}) for case in cases)]
    if not whole:
        return
    figure, panels = pyplot.subplots(1, len(cases), figsize=(10, 3.4), sharey=True)
    for panel, case in zip(panels, cases, strict=True):
        rows = {name: row["tokens/s"] for name, row in whole[-1][case].items() if name != "ratios"}
        names = list(rows)[::-1]
        medians = [rows[name]["median"] for name in names]
        below = [rows[name]["median"] - rows[name]["min"] for name in names]
        above = [rows[name]["max"] - rows[name]["median"] for name in names]
        colours = [COLOURS["glassgpt"] if name.startswith("glassgpt") else "#999999" for name in names]
        panel.barh(names, medians, xerr=[below, above], color=colours, ecolor="#333333", error_kw={"linewidth": 0.8})
        panel.set_title({"decode": "one text", "prefill": "reading a prompt", "batch": "16 texts"}[case], fontsize=9)
        panel.set_xlabel("tokens/s")
        panel.tick_params(axis="y", labelsize=8)
        panel.grid(axis="x", alpha=0.3)
        panel.set_axisbelow(True)
    figure.tight_layout()
    figure.savefig(DOCS / "decode.svg")


def quality_per_minute() -> None:
    texts = points()
    figure, panels = pyplot.subplots(1, len(texts), figsize=(3.2 * len(texts), 3.4), squeeze=False)
    for panel, (text, tools) in zip(panels[0], sorted(texts.items()), strict=True):
        for tool, values in sorted(tools.items()):
            minutes, scores = zip(*sorted(values), strict=True)
            panel.plot(minutes, scores, "o-" if tool == "glassgpt" else "s", color=COLOURS[tool], label=tool)
        panel.set_xscale("log")
        panel.set_xlim(0.8, 12.5)
        panel.set_xticks([1, 2, 5, 10], ["1", "2", "5", "10"])
        panel.minorticks_off()
        panel.set_title(text.removesuffix(".txt"), fontsize=9)
        panel.set_xlabel("minutes")
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("bits per byte")
    handles = {label: handle for panel in panels[0] for handle, label in zip(*panel.get_legend_handles_labels())}
    figure.legend(handles.values(), handles.keys(), loc="outside lower right", ncols=4, fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    figure.savefig(DOCS / "quality_per_minute.svg")


def main() -> None:
    matplotlib.rcParams["svg.fonttype"] = "none"  # letters, not outlines
    quality_per_minute()
    decode()


if __name__ == "__main__":
    main()
