"""What training shows: a header, a live line, and at each evaluation the curve and a sample of writing.

In a terminal the live line is drawn over and over (`LiveView`); on a pipe there are plain lines (`PlainView`).
"""

import contextlib
import math
import os
import shlex
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from glassgpt import __version__
from glassgpt.cli.words import clock_time, count, duration, printable, size
from glassgpt.planning.expectation import nearest

if TYPE_CHECKING:
    from glassgpt.api.start import Start
    from glassgpt.api.train import Costs, Run
    from glassgpt.evaluation.bits_per_byte import Evaluation
    from glassgpt.optim.schedule import StepPlan
    from glassgpt.training.loop import Progress
    from glassgpt.training.metrics import Metrics


WIDEST = 120
"""Columns of the live lines, at most: on a wider terminal the eye would lose them."""


class PlainView:
    """Plain lines, about twenty a run and one an evaluation; also what both views share."""

    def __init__(self, stream: TextIO) -> None:
        self.console = Console(file=stream, highlight=False, soft_wrap=True, no_color=not stream.isatty())
        self.directory: Path | None = None
        self.total_steps = 1
        self.predicted_seconds = 0.0
        self.budget: float | None = None
        self.began = (0, 0.0)  # step and seconds before the first step of this process
        self.last_bpb: float | None = None
        self.best_bpb = math.inf
        self.losses: list[float] = []

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        pass

    def line(self, text: str = "") -> None:
        """Print a line."""
        self.console.print(Text(text))

    def planned(self, start: "Start", costs: "Costs", validated_tokens: int, elapsed: float) -> None:
        """The header: what was read, what will be built, what it will take, what to expect of it."""
        self.directory = _shown(start.directory.path)
        self.total_steps = costs.steps
        self.predicted_seconds = costs.seconds - elapsed
        self.began = (start.step, elapsed)
        self.budget = costs.seconds if start.by_the_clock else None
        width = self.console.width if self.console.is_terminal else 10_000
        for row in header(start, costs, validated_tokens, elapsed):
            self.line(textwrap.fill(row, width, subsequent_indent=" " * 12, break_on_hyphens=False))
        if start.choice and costs.bits_per_byte is not None:
            facts = start.choice.facts
            sample = nearest(costs.bits_per_byte, facts.difficulty.ngram, facts.repetition)
            about = f"(a model of {sample.source}, at {sample.bits_per_byte:.2f} bits per byte)"
            row = f"  {'writing':<10}expect writing about like this {about}:"
            self.line(textwrap.fill(row, width, subsequent_indent=" " * 12))
            self.console.print(Text(_indented(sample.text), style="dim"))
        self.line()

    def replanned(self, plan: "StepPlan") -> None:
        """The run is longer or shorter than was foreseen."""
        self.total_steps = plan.total_steps

    def stepped(self, metrics: "Metrics") -> None:
        """A line every twentieth of the run."""
        self.losses.append(metrics.loss)
        before, now = (20 * step // self.total_steps for step in (metrics.step - 1, metrics.step))
        if now > before or metrics.step == 1:
            self.line(self.status(metrics))

    def saved(self, checkpoint: Path) -> None:
        """Saving says nothing: the run directory is in the header."""

    def evaluated(self, progress: "Progress", evaluation: "Evaluation", sample: str) -> None:
        """Score and sample."""
        self.last_bpb = evaluation.bits_per_byte
        self.best_bpb = min(self.best_bpb, self.last_bpb)
        best = ", the best so far" if self.last_bpb == self.best_bpb else f", best {self.best_bpb:.4f}"
        text = Text(f"step {progress.step:,} | val bpb {self.last_bpb:.4f}{best}", style="bold")
        self.console.print(text)
        self.console.print(Text(_indented(sample), style="dim"))

    def status(self, metrics: "Metrics") -> str:
        """step/total % | loss | val bpb | lr | grad norm | tok/s | memory | elapsed | eta"""
        done = metrics.step / self.total_steps
        steps, seconds = metrics.step - self.began[0], metrics.seconds - self.began[1]
        left = seconds / steps * (self.total_steps - metrics.step)
        if steps < 5:  # too early to tell from what has passed
            left = self.predicted_seconds
        if self.budget is not None:
            left = max(0.0, self.budget - metrics.seconds)
        parts = [
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
        return " | ".join(parts)

    def finished(self, run: "Run") -> None:
        """The result, prediction beside measurement, and what to type next."""
        from glassgpt.training.curve import loss_blocks

        predicted, measured = run.predicted, run.measured
        losses = [line.loss for line in run.history]
        foreseen = "" if predicted.bits_per_byte is None else f" (predicted {predicted.bits_per_byte:.2f})"
        over = f": {duration(run.overrun)} over the budget, what came last took longer than foreseen"
        over = over if run.overrun else ""
        rows = [
            ("loss", f"{loss_blocks(losses, 40)}  {losses[0]:.3f} to {losses[-1]:.3f} nats a token"),
            ("bits per byte", f"{run.bits_per_byte:.4f} on all of the validation text (best checkpoint){foreseen}"),
            ("time", f"{duration(measured.seconds)} (predicted {duration(predicted.seconds)}){over}"),
            ("memory", f"{size(measured.memory_bytes)} (predicted {size(predicted.memory_bytes)})"),
            ("checkpoint", f"{size(measured.checkpoint_bytes)} (predicted {size(predicted.checkpoint_bytes)})"),
            ("curve", str(_shown(run.directory) / "loss.svg")),
        ]
        self.line()
        for name, value in rows:
            self.line(f"  {name:<14}{value}")
        self.line(f"\nNext: glassgpt generate {shlex.quote(str(_shown(run.directory)))} --prompt \"Once upon a time\"")


class LiveView(PlainView):
    """In a terminal: the state and the curve of the loss stay at the bottom, what is worth keeping scrolls above."""

    def __init__(self) -> None:
        super().__init__(sys.stdout)
        self.drawn_at = 0.0
        self.live = Live(console=self.console, refresh_per_second=8, transient=True)

    def __enter__(self) -> None:
        self.live.start()
        self.live.update(Text("reading the text, measuring this machine ...", style="dim"))

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(KeyboardInterrupt):
            self.live.stop()

    def stepped(self, metrics: "Metrics") -> None:
        """Renew the live region, ten times a second at most."""
        from glassgpt.training.curve import loss_blocks

        self.losses.append(metrics.loss)
        now = time.monotonic()
        if now - self.drawn_at < 0.1:
            return
        self.drawn_at = now
        width = min(self.console.width, WIDEST)
        label = "loss "
        curve = loss_blocks(self.losses, max(10, width - len(label) - 16))
        ends = f" {self.losses[0]:.2f} > {metrics.loss:.2f}"
        status = _fit(self.status(metrics), width)
        self.live.update(Text.assemble((label, "dim"), (curve, "cyan"), (ends, "dim"), "\n", status))


def header(start: "Start", costs: "Costs", validated_tokens: int, elapsed: float) -> list[str]:
    """What was read, what will be built, what it is expected to take."""
    chosen, facts = start.settings, start.prepared.facts
    model, optim, run = chosen.model, chosen.optim, chosen.run
    epochs = costs.tokens / max(1, facts.train_tokens)
    documents = f"{facts.documents:,} documents" if facts.documents > 1 else "1 document"
    part = "" if validated_tokens >= facts.val_tokens else f"; on the way, {count(validated_tokens)} tokens of it"
    grouped = f" ({model.n_kv_heads} of keys)" if model.n_kv_heads != model.n_heads else ""
    where = f"{run.device}, {run.dtype}" + (f", {_number(run.threads, 'thread')}" if run.device == "cpu" else "")
    where += ", native step" if run.kernel == "native" else ""
    kinds = f"{facts.vocab_size:,} different"
    if facts.tokenizer == "chars":
        kinds = f"{facts.vocab_size:,} different, the text's characters and all other bytes"
    resumed = f", resumed from {start.checkpoint.name}" if start.checkpoint else ""
    left = costs.seconds - elapsed
    score = "" if costs.bits_per_byte is None else f"; about {costs.bits_per_byte:.2f} bits per byte"
    about = "about " if start.by_the_clock else ""
    rows = [
        ("text", f"{_names(chosen.text)}: {documents}, {facts.characters:,} characters"),
        ("", f"validation: the last {facts.val_fraction:.1%}, {facts.val_characters:,} characters{part}"),
        ("tokens", f"{facts.tokenizer}: {kinds}, {facts.train_tokens:,} to train on"),
        (
            "model",
            f"{model.architecture}: {_number(model.n_layers, 'layer')}, {model.embedding_dim} wide, "
            f"{_number(model.n_heads, 'head')}{grouped}, context {model.context_length}: "
            f"{count(costs.parameters)} parameters",
        ),
        (
            "training",
            f"{about}{costs.steps:,} steps of {optim.batch_size} x {model.context_length} tokens: "
            f"{count(costs.tokens)} tokens, {epochs:.1f} epochs; {optim.name}, learning rate {optim.learning_rate:g}",
        ),
        ("machine", f"{where}: {count(costs.tokens_per_s)} tokens/s"),
        (
            "expect",
            f"{duration(left)} from here, until {clock_time(left)}; {size(costs.memory_bytes)} of memory; "
            f"{size(3 * costs.checkpoint_bytes)} of disk{score}",
        ),
        *(("why" if not number else "", line) for number, line in enumerate(start.choice.why if start.choice else ())),
        ("run", f"{_shown(start.directory.path)}, seed {run.seed}{resumed}"),
        *(("note", note) for note in start.notes),
    ]
    return [f"GlassGPT {__version__}", *(f"  {name:<10}{value}" for name, value in rows)]


def _number(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _names(texts: list[str]) -> str:
    shown = [str(_shown(Path(text))) for text in texts]
    return ", ".join(shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")


def _shown(path: Path) -> Path:
    """A path as short as it can be typed from here."""
    inside = path.is_absolute() and path.is_relative_to(Path.cwd())
    return Path(os.path.relpath(path)) if inside else path


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in printable(text).splitlines())


def _fit(status: str, width: int) -> str:
    """As many parts as the terminal is wide, the last ones first to go."""
    parts = status.split(" | ")
    for unneeded in (4, 3, 4, 4):  # grad norm, learning rate, memory, elapsed: each counted without those before it
        if len(" | ".join(parts)) > width:
            del parts[unneeded]
    return " | ".join(parts)[:width]
