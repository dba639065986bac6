"""What looks wrong in a run, with the numbers that show it and what to do.

Each check looks at one thing and is silent where that is as it should be. The limits are rules of thumb: noise of a
usual run stays inside them.
"""

import json
import math
import shlex
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from glassgpt.checkpoint.atomic import LITTER
from glassgpt.checkpoint.manifest import MANIFEST, verify_checkpoint
from glassgpt.checkpoint.run import RunDirectory
from glassgpt.settings import InputError

FEW_LINES = 6
"""Of metrics.jsonl, from which on its curve tells anything."""
SPIKE, SPIKE_NATS = 1.3, 0.3
"""A loss so many times the medians of the ten lines before and after it, and this much above them."""
EXPLOSION = 10.0
"""A norm of the gradients so many times the usual one."""
SLOWER = 0.75
"""Of the first third's tokens a second, in the last third."""
WORSE = 1.01
"""Times the best score, at the end."""
SMALL_VALIDATION = 20_000
"""Bytes of validation text: with fewer, scores are good to about two hundredths only."""

PREDICTED = (
    ("seconds", 0.1, "time", "s", "look for other work on the machine with `glassgpt doctor`"),
    ("memory_bytes", 0.3, "memory", "bytes", "where memory is short, give --run.max-memory"),
    ("bits_per_byte", 0.15, "score", "bits per byte", "nothing: the law that foretells it knows few such texts"),
)
"""In plan.json and report.json; by what share the two may differ."""


class Line(Protocol):
    """What is read of a line of metrics.jsonl."""

    @property
    def step(self) -> int: ...
    @property
    def loss(self) -> float: ...
    @property
    def val_bpb(self) -> float | None: ...
    @property
    def grad_norm(self) -> float: ...
    @property
    def tokens_per_s(self) -> float: ...


@dataclass(frozen=True)
class Finding:
    """Something that looks wrong."""

    what: str
    evidence: str
    """In numbers."""
    do: str


@dataclass(frozen=True)
class RunRecord:
    """What a run left."""

    run: RunDirectory
    lines: Sequence[Line]
    """Of metrics.jsonl."""
    predicted: Mapping[str, Any]
    """plan.json."""
    measured: Mapping[str, Any]
    """report.json; empty where the run did not come to its end."""
    validation_bytes: int | None
    epochs: float | None
    """How often the training text was seen."""

    @property
    def total_steps(self) -> int | None:
        """Of the whole run, as far as was planned."""
        return self.predicted["plan"][-1][1] if self.predicted.get("plan") else self.predicted.get("steps")


def findings(record: RunRecord) -> list[Finding]:
    """All that looks wrong, what matters most first."""
    checks = (
        _checkpoints, _unfinished, _litter, _non_finite, _never_fell, _diverged, _overfitted, _spikes, _explosions,
        _slower, _predictions, _small_validation,
    )  # fmt: skip
    return [found for check in checks for found in check(record)]


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is none that can be read."""
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def _checkpoints(record: RunRecord) -> Iterator[Finding]:
    checkpoints = record.run.checkpoints()
    if not checkpoints:
        yield Finding(
            "there is no checkpoint", f"no folder step-... in {record.run.path}",
            "the run ended before its first save: start it anew",
        )  # fmt: skip
    for checkpoint in checkpoints:
        try:
            if not (checkpoint / MANIFEST).is_file():
                raise InputError(f"{checkpoint} has no {MANIFEST}, so nothing says whether it is intact")
            verify_checkpoint(checkpoint)
        except InputError as damage:
            others = [other.name for other in checkpoints if other != checkpoint]
            instead = f"delete {checkpoint}; {others[-1]} is left" if others else "train again, or copy it again"
            yield Finding("a checkpoint is damaged", str(damage).partition(": ")[0], instead)


def _unfinished(record: RunRecord) -> Iterator[Finding]:
    latest, total = record.run.latest, record.total_steps
    step = int(latest.name.removeprefix("step-")) if latest else 0
    if step and total and step < total and record.measured.get("steps") != step:
        yield Finding(
            "the run is not finished", f"its latest checkpoint is of step {step:,} of {total:,}",
            f"go on with: glassgpt train --resume {shlex.quote(str(record.run.path))} (unless it is still running)",
        )  # fmt: skip


def _litter(record: RunRecord) -> Iterator[Finding]:
    found = [path for path in record.run.path.iterdir() if LITTER.fullmatch(path.name)]
    if found:
        files = [file for path in found for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file()]
        yield Finding(
            "a save was killed", f"{found[0].name}" + (f" and {len(found) - 1} more" if len(found) > 1 else "")
            + f", {sum(file.stat().st_size for file in files) / 1e6:,.1f} MB",
            "nothing is lost; --resume removes it, or delete it by hand (unless the run is still saving)",
        )  # fmt: skip


def _non_finite(record: RunRecord) -> Iterator[Finding]:
    for line in record.lines:
        for name, value in (("loss", line.loss), ("grad norm", line.grad_norm)):
            if not math.isfinite(value):
                yield Finding(
                    f"the {name} is no number", f"{value} at step {line.step:,}",
                    "lower --optim.learning-rate, or train with --run.dtype fp32",
                )  # fmt: skip
                return


def _never_fell(record: RunRecord) -> Iterator[Finding]:
    losses = _losses(record)
    if len(losses) < FEW_LINES:
        return
    first, last = losses[0], statistics.median(losses[-max(3, len(losses) // 10) :])
    if last > 0.97 * first and min(losses) > 0.9 * first:
        yield Finding(
            "the loss never fell", f"{first:.3f} nats a token at the first step, {last:.3f} at the end",
            "try a tenth of --optim.learning-rate, then ten times of it; check that the text is what you mean",
        )  # fmt: skip


def _diverged(record: RunRecord) -> Iterator[Finding]:
    losses = _losses(record)
    size = max(3, len(losses) // 20)
    if len(losses) < 3 * size:
        return
    medians = [statistics.median(losses[n : n + size]) for n in range(len(losses) - size + 1)]
    lowest = min(medians)
    if medians[-1] > 1.1 * lowest and medians[-1] > lowest + 0.1 and lowest <= 0.9 * losses[0]:
        step = record.lines[medians.index(lowest)].step
        yield Finding(
            "the training loss rose again", f"{lowest:.3f} nats a token at step {step:,}, {medians[-1]:.3f} at the end",
            "train with half of --optim.learning-rate, or with more --optim.warmup",
        )  # fmt: skip


def _overfitted(record: RunRecord) -> Iterator[Finding]:
    scores = [(line.val_bpb, line.step) for line in record.lines if line.val_bpb is not None]
    if len(scores) < 2:
        return
    (best, step), (last, last_step) = min(scores), scores[-1]
    rose = any(_diverged(record))
    if step < last_step and last > WORSE * best and not rose:
        passes = f", after {record.epochs:.1f} passes over the text" if record.epochs else ""
        yield Finding(
            "it learned its text by heart",
            f"{best:.4f} bits per byte at step {step:,}, {last:.4f} at step {last_step:,}{passes}",
            "more text helps most; else fewer --steps or --minutes, --model.dropout-rate 0.2, or a smaller model "
            "(the run stands for its best checkpoint anyway)",
        )  # fmt: skip


def _spikes(record: RunRecord) -> Iterator[Finding]:
    found = []
    for number in range(10, len(record.lines) - 1):
        around = (record.lines[number - 10 : number], record.lines[number + 1 : number + 11])
        usual = max(statistics.median(line.loss for line in lines) for lines in around)
        line = record.lines[number]
        if line.loss > SPIKE * usual and line.loss > usual + SPIKE_NATS:
            found.append((line.step, line.loss, usual))
    if found:
        step, loss, usual = max(found, key=lambda spike: spike[1] / spike[2])
        yield Finding(
            "the loss has spikes", f"{len(found)}, the highest {loss:.3f} at step {step:,} where {usual:.3f} was usual",
            "harmless where it falls again; else lower --optim.learning-rate or --optim.grad-clip, or look for odd "
            "passages in the text",
        )  # fmt: skip


def _explosions(record: RunRecord) -> Iterator[Finding]:
    norms = [(line.grad_norm, line.step) for line in record.lines if math.isfinite(line.grad_norm)]
    if len(norms) < FEW_LINES:
        return
    usual = statistics.median(norm for norm, _ in norms)
    learning = max(3, len(norms) // 5)  # at first the gradients are large in any run
    high = [(norm, step) for norm, step in norms[learning:] if norm > EXPLOSION * usual]
    if high:
        norm, step = max(high)
        yield Finding(
            "the gradients exploded",
            f"{len(high)} in {len(norms)} lines; a norm of {norm:.3g} at step {step:,}, {usual:.3g} is usual",
            "lower --optim.learning-rate; keep --optim.grad-clip at 1 or below",
        )  # fmt: skip


def _slower(record: RunRecord) -> Iterator[Finding]:
    speeds = [line.tokens_per_s for line in record.lines[1:]]
    third = len(speeds) // 3
    if third < 3:
        return
    before, after = statistics.median(speeds[:third]), statistics.median(speeds[-third:])
    if after < SLOWER * before:
        yield Finding(
            "it became slower", f"{before:,.0f} tokens/s in the first third, {after:,.0f} in the last",
            "something else wanted the machine, or it grew hot: see `glassgpt doctor`",
        )  # fmt: skip


def _predictions(record: RunRecord) -> Iterator[Finding]:
    for name, tolerance, what, unit, do in PREDICTED:
        foreseen, came = record.predicted.get(name), record.measured.get(name)
        if not foreseen or not came or (name == "seconds" and abs(came - foreseen) < 3):
            continue
        if abs(came / foreseen - 1) > tolerance:
            evidence = f"{came:,.4g} {unit}, {foreseen:,.4g} were predicted"
            yield Finding(f"the {what} was not as predicted", evidence, do)


def _small_validation(record: RunRecord) -> Iterator[Finding]:
    if record.validation_bytes is not None and record.validation_bytes < SMALL_VALIDATION:
        yield Finding(
            "the validation text is small", f"{record.validation_bytes:,} bytes",
            "do not trust small differences of its score; give more text or a larger --val-fraction",
        )  # fmt: skip


def _losses(record: RunRecord) -> list[float]:
    return [line.loss for line in record.lines if math.isfinite(line.loss)]
