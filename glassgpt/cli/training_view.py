"""What training shows: a header, a live line, and at each evaluation the curve and a sample of writing.

In a terminal the curve, the live line and the newest sample are drawn over and over (`LiveView`); on a pipe there are
plain lines (`PlainView`). Colours are few, so that they can be read on dark and on light ground: bold, dim, magenta.
"""

import contextlib
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, cast

from rich.console import Console
from rich.text import Text

from glassgpt import __version__
from glassgpt.cli.live_region import LiveRegion
from glassgpt.cli.loss_chart import LossSeries, loss_chart
from glassgpt.cli.process import Lasting
from glassgpt.cli.training_header import header, shown
from glassgpt.cli.words import command, count, duration, printable, size, wrapped
from glassgpt.planning.expectation import nearest

if TYPE_CHECKING:
    from glassgpt.api.start import Start
    from glassgpt.api.train import Costs, Run
    from glassgpt.evaluation.bits_per_byte import Evaluation
    from glassgpt.optim.schedule import StepPlan
    from glassgpt.training.loop import Progress, Skipped
    from glassgpt.training.metrics import Metrics


WIDEST = 120
"""Columns of the live lines, at most: on a wider terminal the eye would lose them."""
INDENT = " " * 12
"""Of what the header says in its second column."""


def view_of(stream: TextIO) -> "PlainView":
    """The view that suits a stream: live in a terminal that can move its cursor and has braille."""
    console = Console(file=stream)
    able = stream.isatty() and not console.is_dumb_terminal and not console.legacy_windows
    return LiveView(stream) if able and console.encoding.startswith("utf") else PlainView(stream)


class PlainView:
    """Plain lines, about twenty a run and one an evaluation; also what both views share."""

    def __init__(self, stream: TextIO) -> None:
        no_color = None if stream.isatty() else True  # None: NO_COLOR of the environment decides
        self.console = Console(file=cast("TextIO", Lasting(stream)), highlight=False, soft_wrap=True, no_color=no_color)
        self.directory: Path | None = None
        self.total_steps = 1
        self.predicted_seconds = 0.0
        self.budget: float | None = None
        self.began = (0, 0.0)  # step and seconds before the first step of this process
        self.last_bpb: float | None = None
        self.best_bpb = math.inf
        self.trust: tuple[str, ...] = ()  # what opening the run takes, where its model is one's own
        self.resume_trust: tuple[str, ...] = ()  # and what going on takes, where the run has not said it yet
        self.on = ""  # which part of the validation text is evaluated on the way

    @property
    def width(self) -> int:
        """Columns of a line; on a pipe, as many as it takes."""
        return self.console.width if self.console.is_terminal else 10_000

    def __enter__(self) -> None:
        """The first line, before anything that takes time."""
        self.line(f"GlassGPT {__version__}")

    def __exit__(self, *error: object) -> None:
        pass

    def print(self, text: Text) -> None:
        """Print something that stays."""
        self.console.print(text)

    def line(self, text: str = "") -> None:
        """Print a line."""
        self.print(Text(text))

    def phase(self, what: str) -> None:
        """What is done before the first step: each is a line, since each may take long."""
        self.line(f"  {what} ...")

    def planned(self, start: "Start", costs: "Costs", validated_tokens: int, elapsed: float) -> None:
        """The header: what was read, what will be built, what it will take, what to expect of it."""
        self.directory = shown(start.directory.path)
        self.total_steps = costs.steps
        self.predicted_seconds = costs.seconds - elapsed
        self.began = (start.step, elapsed)
        self.budget = costs.seconds if start.by_the_clock else None
        self.trust = ("--trust-code",) if start.code.make_model else ()
        self.resume_trust = ("--trust-code",) if start.code.source is not None else ()
        self.on = " (of a part)" if validated_tokens < start.prepared.facts.val_tokens else ""
        for row in header(start, costs, validated_tokens, elapsed):
            self.line("\n".join(wrapped(row, self.width, INDENT)))
        facts, score = start.choice.facts if start.choice else None, costs.bits_per_byte
        if facts and score and (sample := nearest(score, facts.difficulty.ngram, facts.repetition)):
            about = f"(a model of {sample.source}, at {sample.bits_per_byte:.2f} bits per byte)"
            row = f"  {'writing':<10}expect writing about like this {about}:"
            self.line("\n".join(wrapped(row, self.width, INDENT)))
            self.print(self.sample(sample.text))
        self.line()

    def sample(self, text: str) -> Text:
        """A sample of writing, as it stays on the screen."""
        return Text("\n".join(_sample_lines(text, self.width)), style="dim")

    def replanned(self, plan: "StepPlan") -> None:
        """The run is longer or shorter than was foreseen."""
        self.total_steps = plan.total_steps

    def stepped(self, metrics: "Metrics") -> None:
        """A line every twentieth of the run."""
        before, now = (20 * step // self.total_steps for step in (metrics.step - 1, metrics.step))
        if now > before or metrics.step == 1:
            self.line(" | ".join(self.status(metrics)))

    def skipped(self, skipped: "Skipped") -> None:
        """A line that stays: an update that was not made."""
        self.print(Text("\n".join(wrapped(str(skipped), self.width, "    ")), style="magenta"))

    def saved(self, checkpoint: Path) -> None:
        """Saving says nothing: the run directory is in the header."""

    def evaluated(self, progress: "Progress", evaluation: "Evaluation", sample: str) -> None:
        """Score and sample."""
        self.print(Text(self.scored(progress, evaluation), style="bold"))
        self.print(self.sample(sample))

    def scored(self, progress: "Progress", evaluation: "Evaluation") -> str:
        """The line of an evaluation."""
        self.last_bpb = evaluation.bits_per_byte
        self.best_bpb = min(self.best_bpb, self.last_bpb)
        best = ", the best so far" if self.last_bpb == self.best_bpb else f", best {self.best_bpb:.4f}"
        return f"step {progress.step:,} | val bpb {self.last_bpb:.4f}{self.on}{best}"

    def status(self, metrics: "Metrics") -> list[str]:
        """step/total % | loss | val bpb | lr | grad norm | tok/s | memory | elapsed | eta"""
        done = metrics.step / self.total_steps
        steps, seconds = metrics.step - self.began[0], metrics.seconds - self.began[1]
        left = seconds / steps * (self.total_steps - metrics.step)
        if steps < 5:  # too early to tell from what has passed
            left = self.predicted_seconds * (1 - done)
        if self.budget is not None:
            left = max(0.0, self.budget - metrics.seconds)
        return [
            f"{metrics.step:,}/{self.total_steps:,} {done:.0%}",
            f"loss {metrics.loss:.3f}",
            f"val bpb {'-' if self.last_bpb is None else f'{self.last_bpb:.3f}'}",
            f"lr {metrics.lr:.1e}",
            f"grad {metrics.grad_norm:.2f}",
            f"{count(metrics.tokens_per_s)} tok/s",
            size(metrics.memory_bytes),
            duration(metrics.seconds),
            f"eta {duration(left)}",
        ]

    def finished(self, run: "Run") -> None:
        """The result, prediction beside measurement, and what to type next."""
        over = f"{duration(run.overrun)} over the budget: what came last took longer than foreseen"
        rows = [
            ("loss", self.curve(run)),
            ("bits per byte", f"{run.bits_per_byte:.4f} on all of the validation text (best checkpoint)"),
            *self.counting(run),
            *([("time", over)] if run.overrun else []),
            ("curve", str(shown(run.directory) / "loss.svg")),
            *([("report", f"{shown(run.report)}, to open in a browser")] if run.report else []),
        ]
        self.line()
        for name, value in rows:
            self.line("\n".join(wrapped(f"  {name:<14}{value}", self.width, INDENT + "    ")))
        self.line()
        for row in compared(run.predicted, run.measured):
            self.line(row)
        self.line(f"\nNext: {command('generate', shown(run.directory), *self.trust)} --prompt \"Once upon a time\"")

    def counting(self, run: "Run") -> list[tuple[str, str]]:
        """What counting would have reached on the same text."""
        longest = max(run.ngrams, default=None)
        if longest is None:
            return []
        counted = f"a {longest}-gram model of this run's tokens reaches {run.ngrams[longest]:.2f} bits per byte"
        return [("by counting", f"{counted}; this model {run.bits_per_byte:.2f}")]

    def curve(self, run: "Run") -> str:
        """How the loss fell."""
        from glassgpt.training.curve import loss_blocks

        losses = [line.loss for line in run.history]
        return f"{loss_blocks(losses, 30)}  {losses[0]:.3f} to {losses[-1]:.3f} nats a token"


class LiveView(PlainView):
    """In a terminal: curve, state and newest sample stay at the bottom, what came before scrolls above."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self.region = LiveRegion(self.console, self.lines)
        self.now = ("starting", time.monotonic())  # a phase, and since when
        self.last: Metrics | None = None
        self.losses = LossSeries()
        self.validation: list[tuple[int, float]] = []
        self.newest: tuple[str, str] | None = None  # the score and the sample of the last evaluation

    def __enter__(self) -> None:
        super().__enter__()
        self.region.start()

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(KeyboardInterrupt):
            self.region.stop()
            self._keep_newest()

    def print(self, text: Text) -> None:
        """Print something that stays, above the live lines."""
        self.region.print(text)

    def phase(self, what: str) -> None:
        """What is done before the first step."""
        self.now = (what, time.monotonic())

    def stepped(self, metrics: "Metrics") -> None:
        """Taken note of, to be drawn when it is time."""
        self.losses.add(metrics.step, metrics.loss)
        self.last = metrics

    def evaluated(self, progress: "Progress", evaluation: "Evaluation", sample: str) -> None:
        """The sample stays below the curve until a newer one takes its place."""
        self._keep_newest()
        self.validation.append((progress.step, evaluation.loss))
        self.newest = (self.scored(progress, evaluation), sample)

    def _keep_newest(self) -> None:
        if self.newest:
            scored, sample = self.newest
            self.newest = None
            self.print(Text(scored, style="bold"))
            self.print(self.sample(sample))

    def lines(self, width: int, height: int) -> list[Text]:
        """What is drawn: as much as there is room for, and room for a few rows of what scrolls above."""
        if self.last is None:
            what, since = self.now
            seconds = time.monotonic() - since
            return [Text(f"  {what} ..." + (f" {duration(seconds)}" if seconds >= 1 else ""), style="dim")]
        width = min(width, WIDEST)
        status = self.status(self.last)
        if height < 14:
            return [Text(_fit(status, width))]
        drawn = [Text(row, style="bold") for row in _rows(status, width)]
        if len(self.losses.points) > 1:
            drawn = [*loss_chart(list(self.losses.points), self.validation, width, height // 5), *drawn]
        if self.newest:
            scored, sample = self.newest
            rows = [row for row in _sample_lines(sample, width) if row.strip()][: max(1, (height - 16) // 4)]
            drawn += [*map(Text, wrapped(scored, width)), *(Text(row, style="dim") for row in rows)]
        return drawn

    def curve(self, run: "Run") -> str:
        """How the loss fell; the chart is printed by itself."""
        if len(self.losses.points) > 1:
            self.line()
            width, height = self.console.size
            for row in loss_chart(self.losses.points, self.validation, min(width, WIDEST), max(4, height // 5)):
                self.print(row)
        last = self.losses.points[-1][1] if self.losses.points else math.nan
        return f"{self.losses.first:.3f} to {last:.3f} nats a token" if self.losses.first else super().curve(run)


def compared(predicted: "Costs", measured: "Costs") -> list[str]:
    """What was predicted beside what was measured, and by how much that is more or less, as a table."""
    rows = [f"  {'':<14}{'predicted':>14}{'measured':>14}"]
    shapes: list[tuple[str, str, Callable[[float], str]]] = [
        ("time", "seconds", duration), ("speed", "tokens_per_s", lambda n: f"{count(n)} tok/s"),
        ("memory", "memory_bytes", size), ("checkpoint", "checkpoint_bytes", size),
        ("bits per byte", "bits_per_byte", lambda n: f"{n:.3f}"),
    ]  # fmt: skip
    for name, field, written in shapes:
        before, after = getattr(predicted, field), getattr(measured, field)
        if not after:
            continue
        change = f"{after / before - 1:>+9.1%}" if before else ""
        rows.append(f"  {name:<14}{written(before) if before else 'not foreseen':>14}{written(after):>14}{change}")
    return rows


def _sample_lines(text: str, width: int) -> list[str]:
    """Writing, indented and broken between words."""
    lines = printable(text).splitlines()
    return [f"    {row}" for line in lines for row in wrapped(line, width - 4)]


def _rows(parts: list[str], width: int) -> list[str]:
    """The parts of a state in as many rows as they take."""
    rows = [parts[0]]
    for part in parts[1:]:
        longer = f"{rows[-1]} | {part}"
        if len(longer) <= width:
            rows[-1] = longer
        else:
            rows.append(part)
    return rows


def _fit(status: list[str], width: int) -> str:
    """As many parts as the terminal is wide, the last ones first to go."""
    parts = list(status)
    for unneeded in (4, 3, 4, 4):  # grad norm, learning rate, memory, elapsed: each counted without those before it
        if len(" | ".join(parts)) > width:
            del parts[unneeded]
    return " | ".join(parts)[:width]
