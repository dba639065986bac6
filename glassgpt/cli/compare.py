"""`glassgpt compare`: which of several settings is better, if any."""

import json
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

from cyclopts import Parameter
from rich import box
from rich.cells import set_cell_size
from rich.console import Console
from rich.table import Table

from glassgpt import settings
from glassgpt.cli.numbers import Whole
from glassgpt.cli.process import interruptible_imports
from glassgpt.cli.words import count, duration
from glassgpt.config import DIALECTS, OTHER_TOOLS, SECTIONS
from glassgpt.settings import InputError

if TYPE_CHECKING:
    from glassgpt.api.compare import Comparison, Score
    from glassgpt.api.train import Listener
    from glassgpt.training.metrics import Metrics


def compare(
    *files: str,
    with_: Annotated[list[str] | None, Parameter(name="--with", negative="")] = None,
    text: Annotated[list[str] | None, Parameter(negative="")] = None,
    seeds: Whole = 5,
    tokens: Whole | None = None,
    steps: Whole | None = None,
    minutes: float | None = None,
    out: str | None = None,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Train two or more settings with the same seeds in turn, and say which are better or worse than the first.

    Parameters
    ----------
    files
        YAML files with settings, as `train --config` takes them; the first is the baseline. A model or an optimiser
        of your own is a setting too: `run: {code: variant.py}`.
    with_
        A further variant: the first file (or the defaults, where none is given) with these changes, such as
        --with optim.learning_rate=3e-3,model.n_layers=6. May be given several times.
    text
        What to train on, instead of the text that the files name.
    seeds
        How many runs each variant gets.
    tokens
        Length of a run in tokens. Give this, --steps or --minutes.
    steps
        Length of a run in steps of the optimiser.
    minutes
        Length of a run by the clock.
    out
        Directory to keep the runs in, with compare.json. Left out: they are deleted.
    as_json
        Print one JSON object, and nothing else, on standard output.
    """
    given = _variants(files, with_ or [])
    view = View(sys.stderr if as_json else sys.stdout)
    view.draw("loading PyTorch ...")
    with interruptible_imports():
        from glassgpt.api.compare import ComparisonStopped
        from glassgpt.api.compare import compare as compare_variants

    variants = {name: arguments for name, (arguments, _) in given.items()}
    code = 0
    view.draw("first a step of each setting, to find what cannot work ...")
    try:
        found = compare_variants(
            variants, text=text or (), seeds=seeds, steps=steps, tokens=tokens, minutes=minutes, out=out, watcher=view
        )
    except InputError:
        view.clear()
        raise
    except ComparisonStopped as stopped:
        found, code = stopped.comparison, 130
        view.line(str(stopped))
    view.clear()
    if as_json:
        print(json.dumps(found.to_dict()))
        return code
    report(found, view.console)
    if any(variant.verdict == "cannot tell" for variant in found.variants[1:]):
        view.line(f"\nNext: the same with --seeds {2 * seeds}, or with longer runs, tells smaller differences")
    else:
        better = [variant for variant in found.variants[1:] if variant.verdict == "better"]
        best = min(better, key=lambda variant: variant.bits_per_byte or 0.0, default=found.variants[0])
        view.line(f"\nNext: {shlex.join(['glassgpt', 'train', *(text or ()), *given[best.name][1]])}")
    return code


def _variants(files: tuple[str, ...], changes: list[str]) -> dict[str, tuple[dict[str, Any], list[str]]]:
    """By name, the arguments of `glassgpt.train` and the flags of `glassgpt train` that say the same."""
    variants: dict[str, tuple[dict[str, Any], list[str]]] = {}
    for file in files:
        stem, n = Path(file).stem, sum(Path(other).stem == Path(file).stem for other in files[: len(variants)])
        variants[f"{stem}-{n + 1}" if n else stem] = ({"config": file}, ["--config", file])
    base, flags = next(iter(variants.values())) if variants else ({}, [])
    if changes and not variants:
        variants["defaults"] = (base, flags)
    for change in changes:
        parts = [f"--{part.strip()}" for part in change.split(",")]
        given, rest = settings.split_overrides(parts, SECTIONS)
        for section, values in given.items():
            renamed = {DIALECTS.get(name, name): value for name, value in values.items()}
            settings.typed(SECTIONS[section], renamed, section, OTHER_TOOLS)
        if rest or not all("=" in part for part in parts):
            raise InputError(f"--with {change} is no setting: write --with section.field=value, as in optim.beta2=0.95")
        variants[change] = (base | given, [*flags, *parts])
    return variants


class View:
    """A line a run; in a terminal, also one that is drawn over and over while it trains."""

    def __init__(self, stream: TextIO) -> None:
        terminal = stream.isatty()
        width = None if terminal else 100
        no_color = None if terminal else True  # None: NO_COLOR of the environment decides
        self.console = Console(file=stream, highlight=False, no_color=no_color, width=width)
        self.is_live = terminal and not self.console.is_dumb_terminal
        self.began = time.monotonic()
        self.drawn_at = 0.0
        self.run = ""

    def begins(self, name: str, seed: int, number: int, total: int) -> "Listener":
        """Before a run."""
        from glassgpt.api.train import Silent

        view, done = self, number - 1
        left = (time.monotonic() - self.began) / done * (total - done) if done else 0.0
        self.run = f"{number}/{total} {name}, seed {seed}"

        class Live(Silent):
            def stepped(self, metrics: "Metrics") -> None:
                eta = f" | all in {duration(left)}" if done else ""
                view.draw(f"{view.run}: step {metrics.step:,}, loss {metrics.loss:.3f}{eta}")

        return Live()

    def ended(self, name: str, score: "Score") -> None:
        """After a run."""
        self.line(f"{self.run}: {score.bits_per_byte:.4f} bits per byte, {duration(score.seconds)}")

    def draw(self, text: str) -> None:
        """Renew the live line, ten times a second at most."""
        if self.is_live and time.monotonic() - self.drawn_at > 0.1:
            self.drawn_at = time.monotonic()
            self.console.file.write(f"\r\x1b[2K{set_cell_size(text, self.console.width - 1).rstrip()}")
            self.console.file.flush()

    def clear(self) -> None:
        """Take the live line away."""
        if self.is_live:
            self.console.file.write("\r\x1b[2K")

    def line(self, text: str) -> None:
        """Print a line that stays."""
        self.clear()
        self.console.print(text, markup=False, soft_wrap=True)


def report(found: "Comparison", console: Console) -> None:
    """Two tables, quality and speed, and what their numbers mean."""
    baseline, *others = found.variants
    quality, speed = (Table(box=box.SIMPLE_HEAD, pad_edge=False) for _ in range(2))
    for table, columns in (
        (quality, ("bits/byte", "difference", f"{found.interval:.0%} interval", "p", "verdict")),
        (speed, ("parameters", "tokens/s", "ratio", "a run")),
    ):
        table.add_column("variant", overflow="fold")
        for name in columns:
            table.add_column(name, justify="right", no_wrap=True)
    for variant in found.variants:
        if variant.bits_per_byte is None:
            quality.add_row(variant.name, "-", "", "", "", "" if variant is baseline else variant.verdict)
            continue
        difference = [""] * 3
        if (d := variant.difference) is not None:
            difference = [f"{d.mean:+.4f}", f"{d.low:+.4f} to {d.high:+.4f}", f"{d.p_value:.2g}"]
        verdict = "" if variant is baseline else variant.verdict
        quality.add_row(variant.name, f"{variant.bits_per_byte:.4f}", *difference, verdict)
        speed.add_row(
            variant.name,
            f"{variant.scores[0].parameters:,}",
            count(variant.median("tokens_per_s")),
            "" if variant.speed is None else f"{variant.speed:.2f}x",
            duration(variant.median("seconds")),
        )
    console.print(quality, speed, markup=False)
    several = f", corrected for {len(others)} comparisons" if len(others) > 1 else ""
    equal = [v.name for v in others if v.difference and v.difference.low == v.difference.high == 0]
    notes = [
        *(f"{name} gives the very numbers of {baseline.name}: it sets what is so already" for name in equal),
        f"difference: mean over pairs of runs with one seed, variant minus {baseline.name}; below 0 is better",
        f"verdict: p below {found.false_verdicts} (Student's t{several}), so that equals seldom get one",
        *(f"{variant.name} failed, {variant.failure}" for variant in others if variant.failure),
        *([_arithmetic(found.arithmetic)] if found.arithmetic else []),
        *([f"the runs are in {found.directory}"] if found.directory else []),
    ]
    for note in notes:
        console.print(note, markup=False, soft_wrap=True)


def _arithmetic(shared: dict[str, Any]) -> str:
    """What all variants were given, and why."""
    return f"PyTorch computes all steps, in {shared['dtype']}: the native step does not know every variant's model"
