"""What looks wrong in a run, with the numbers that show it and what to do.

Each check looks at one thing and is silent where that is as it should be. The limits are rules of thumb: noise of a
usual run stays inside them.
"""

import shlex
import statistics
from collections.abc import Iterator

from glassgpt.checkpoint.own_model import CODE
from glassgpt.inspection import curve_checks, learning_checks, text_checks
from glassgpt.inspection.finding import Finding, RunRecord, number

SLOWER = 0.75
"""Of the first third's tokens a second, in the last third."""
SMALL_VALIDATION = 20_000
"""Bytes of validation text: with fewer, scores are good to about two hundredths only."""

PREDICTED = (
    ("seconds", 0.1, "time", "s", "look for other work on the machine with `glassgpt doctor`"),
    ("memory_bytes", 0.3, "memory", "bytes", "where memory is short, give --run.max-memory"),
    ("bits_per_byte", 0.15, "score", "bits per byte", "nothing: the law that foretells it knows few such texts"),
)
"""In plan.json and report.json; by what share the second may be larger."""


EXPLAINS = {
    "diverged": ("learning_rate_too_high", "never_fell", "behind_counting", "gradient_explosion", "prediction"),
    "learning_rate_too_high": (
        "never_fell", "behind_counting", "gradient_explosion", "loss_spikes", "dead_units", "overfitting",
    ),
    "learning_rate_too_low": ("never_fell", "behind_counting"),
    "idle_layer": ("behind_counting",),
    "dead_units": ("behind_counting",),
    "noise": ("never_fell", "behind_counting", "too_little_data", "overfitting", "prediction"),
    "repetitive": ("too_little_data", "overfitting", "prediction"),
    "unsuited_tokenizer": ("behind_counting",),
}  # fmt: skip
"""What follows from a finding, and is not said beside it."""


def findings(record: RunRecord) -> list[Finding]:
    """All that looks wrong, what matters most first."""
    checks = (
        _damage, _unfinished, _skipped, curve_checks.non_finite, curve_checks.diverged,
        learning_checks.rate_too_high, learning_checks.rate_too_low, curve_checks.never_fell,
        learning_checks.idle_layers, learning_checks.dead_units, text_checks.repetitive, text_checks.noise,
        text_checks.tokenizer, curve_checks.overfitted, learning_checks.too_little_data,
        learning_checks.behind_counting, curve_checks.spikes, curve_checks.explosions,
        _slower, _predictions, _small_validation,
    )  # fmt: skip
    found = [finding for check in checks for finding in check(record)]
    explained = {name for finding in found for name in EXPLAINS.get(finding.name, ())}
    return [finding for finding in found if finding.name not in explained]


def _damage(record: RunRecord) -> Iterator[Finding]:
    yield from record.damage


def _unfinished(record: RunRecord) -> Iterator[Finding]:
    latest, total = record.run.latest, record.total_steps
    step = int(latest.name.removeprefix("step-")) if latest else 0
    if step and total and step <= total and record.measured.get("steps") != step:
        trust = " --trust-code" if (record.run.path / CODE).is_file() else ""
        missing = ", but its last evaluation and its report are missing" if step == total else ""
        command = f"glassgpt train --resume {shlex.quote(str(record.run.path))}{trust}"
        yield Finding(
            "unfinished", "the run is not finished", f"its latest checkpoint is of step {step:,} of {total:,}{missing}",
            f"go on with: {command} (unless it is still running)",
        )  # fmt: skip


def _skipped(record: RunRecord) -> Iterator[Finding]:
    if record.skipped:
        first = record.skipped[0]
        why = f"the first at step {first['step']:,}: {first.get('why', 'it does not say why')}"
        yield Finding(
            "skipped_steps", "steps made no update", f"{len(record.skipped):,}, {why}",
            "a few do no harm; of many, lower --optim.learning-rate, and look at the text at the tokens that "
            f"{record.run.path / 'skipped.jsonl'} names",
        )  # fmt: skip


def _slower(record: RunRecord) -> Iterator[Finding]:
    speeds = [line.tokens_per_s for line in record.lines[1:]]
    third = len(speeds) // 3
    if third < 3:
        return
    before, after = statistics.median(speeds[:third]), statistics.median(speeds[-third:])
    if after < SLOWER * before:
        yield Finding(
            "slower", "it became slower", f"{before:,.0f} tokens/s in the first third, {after:,.0f} in the last",
            "something else wanted the machine, or it grew hot: see `glassgpt doctor`",
        )  # fmt: skip


def _predictions(record: RunRecord) -> Iterator[Finding]:
    """What was worse than predicted: a shorter time or a better score is nothing wrong."""
    for name, tolerance, what, unit, do in PREDICTED:
        foreseen, came = number(record.predicted, name), number(record.measured, name)
        if not foreseen or not came or (name == "seconds" and (came < foreseen + 3 or any(_slower(record)))):
            continue
        if came / foreseen - 1 > tolerance:
            evidence = f"{came:,.4g} {unit}, {foreseen:,.4g} were predicted"
            yield Finding("prediction", f"the {what} was not as predicted", evidence, do)


def _small_validation(record: RunRecord) -> Iterator[Finding]:
    if record.validation_bytes is not None and record.validation_bytes < SMALL_VALIDATION:
        yield Finding(
            "small_validation", "the validation text is small", f"{record.validation_bytes:,} bytes",
            "do not trust small differences of its score; give more text or a larger --val-fraction",
        )  # fmt: skip
