"""Pictures of `history.jsonl` for docs/: so far docs/quality_per_minute.svg.

    python benchmarks/pictures.py

Bits per byte over minutes of wall clock, a panel a text: of ours every run, of the others the best learning rate.
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


def main() -> None:
    matplotlib.rcParams["svg.fonttype"] = "none"  # letters, not outlines
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


if __name__ == "__main__":
    main()
