"""What looks wrong in a run's curves: its loss, its scores, the norm of its gradients.

The limits are rules of thumb: noise of a usual run stays inside them.
"""

import math
import statistics
from collections.abc import Iterator

from glassgpt.inspection.finding import Finding, RunRecord

FEW_LINES = 6
"""Of metrics.jsonl, from which on its curve tells anything."""
SPIKE, SPIKE_NATS = 1.3, 0.3
"""A loss so many times the medians of the ten lines before and after it, and this much above them."""
EXPLOSION = 10.0
"""A norm of the gradients so many times the usual one."""
WORSE = 1.01
"""Times the best score, at the end."""


def non_finite(record: RunRecord) -> Iterator[Finding]:
    for line in record.lines:
        for name, value in (("loss", line.loss), ("grad norm", line.grad_norm)):
            if not math.isfinite(value):
                yield Finding(
                    "not_finite", f"the {name} is no number", f"{value} at step {line.step:,}",
                    "lower --optim.learning-rate, or train with --run.dtype fp32",
                )  # fmt: skip
                return


def never_fell(record: RunRecord) -> Iterator[Finding]:
    losses = _losses(record)
    if len(losses) < FEW_LINES:
        return
    first, last = losses[0], statistics.median(losses[-max(3, len(losses) // 10) :])
    if last > 0.97 * first and min(losses) > 0.9 * first:
        yield Finding(
            "never_fell", "the loss never fell", f"{first:.3f} nats a token at the first step, {last:.3f} at the end",
            "try a tenth of --optim.learning-rate, then ten times of it; check that the text is what you mean",
        )  # fmt: skip


def diverged(record: RunRecord) -> Iterator[Finding]:
    losses = _losses(record)
    size = max(3, len(losses) // 20)
    if len(losses) < 3 * size:
        return
    medians = [statistics.median(losses[n : n + size]) for n in range(len(losses) - size + 1)]
    lowest = min(medians)
    if medians[-1] > 1.1 * lowest and medians[-1] > lowest + 0.1 and lowest <= 0.9 * losses[0]:
        step = record.lines[medians.index(lowest)].step
        yield Finding(
            "diverged", "the training loss rose again",
            f"{lowest:.3f} nats a token at step {step:,}, {medians[-1]:.3f} at the end",
            "train with half of --optim.learning-rate, or with more --optim.warmup",
        )  # fmt: skip


def overfitted(record: RunRecord) -> Iterator[Finding]:
    scores = [(line.val_bpb, line.step) for line in record.lines if line.val_bpb is not None]
    if len(scores) < 2:
        return
    (best, step), (last, last_step) = min(scores), scores[-1]
    rose = any(diverged(record))
    if step < last_step and last > WORSE * best and not rose:
        passes = f", after {record.epochs:.1f} passes over the text" if record.epochs else ""
        yield Finding(
            "overfitting", f"it learns its text by heart since step {step:,}",
            f"{best:.4f} bits per byte of the validation text then, {last:.4f} at step {last_step:,}{passes}",
            "more text helps most; else fewer --steps or --minutes, --model.dropout-rate 0.2, or a smaller model "
            "(the run stands for its best checkpoint anyway)",
        )  # fmt: skip


def spikes(record: RunRecord) -> Iterator[Finding]:
    found = []
    for number in range(10, len(record.lines) - 1):
        around = (record.lines[number - 10 : number], record.lines[number + 1 : number + 11])
        usual = max(statistics.median(line.loss for line in lines) for lines in around)
        line = record.lines[number]
        if usual > 0 and line.loss > SPIKE * usual and line.loss > usual + SPIKE_NATS:
            found.append((line.step, line.loss, usual))
    if found:
        step, loss, usual = max(found, key=lambda spike: spike[1] / spike[2])
        yield Finding(
            "loss_spikes", "the loss has spikes",
            f"{len(found)}, the highest {loss:.3f} at step {step:,} where {usual:.3f} was usual",
            "harmless where it falls again; else lower --optim.learning-rate or --optim.grad-clip, or look for odd "
            "passages in the text",
        )  # fmt: skip


def explosions(record: RunRecord) -> Iterator[Finding]:
    norms = [(line.grad_norm, line.step) for line in record.lines if math.isfinite(line.grad_norm)]
    if len(norms) < FEW_LINES:
        return
    usual = statistics.median(norm for norm, _ in norms)
    learning = max(3, len(norms) // 5)  # at first the gradients are large in any run
    high = [(norm, step) for norm, step in norms[learning:] if norm > EXPLOSION * usual]
    if high:
        norm, step = max(high)
        yield Finding(
            "gradient_explosion", "the gradients exploded",
            f"{len(high)} in {len(norms)} lines; a norm of {norm:.3g} at step {step:,}, {usual:.3g} is usual",
            "lower --optim.learning-rate; keep --optim.grad-clip at 1 or below",
        )  # fmt: skip


def _losses(record: RunRecord) -> list[float]:
    return [line.loss for line in record.lines if math.isfinite(line.loss)]
