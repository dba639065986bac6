"""What looks wrong in how a model learned, seen in the lines of health.jsonl and beside what counting reaches.

The limits were set by a sweep of learning rates over architectures and optimisers (docs/log.md).
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from glassgpt.inspection.finding import Finding, RunRecord, number

LOUD, VERY_LOUD = 100.0, 1000.0
"""RMS of the residual stream: 0.1 to 10 in models that learn well, hundreds where the weights have run away."""
LEARNED_LITTLE = 0.9
"""Times the score of counting single tokens: a worse model knows little of what follows what."""
SMALL_UPDATE = 1e-3
"""Share of their size by which weights usually change in a step at the full learning rate, or more."""
UNMOVED = 0.2
"""Such changes of all steps together, were they all in one direction."""
IDLE = 0.01
"""Times the usual update ratio of the blocks."""
MANY_DEAD = 0.25
"""Share of the units of a feed-forward; with GELU and SwiGLU almost none is usual."""
TOKENS_PER_PARAMETER, GAP = 0.2, 0.1
"""A model with so few tokens to learn from can learn them by heart; it does where training and validation are so far
apart, as a share."""
BEHIND = 1.02
"""Times the score of counting pairs: less than that is within what another part of the text would give."""


def rate_too_high(record: RunRecord) -> Iterator[Finding]:
    norms = [_values(line["layers"], "activation_norm") for line in _lines(record)]
    highest = max((norm for line in norms for norm in line), default=0.0)
    if highest > VERY_LOUD or (highest > LOUD and _learned_little(record)):
        yield Finding(
            "learning_rate_too_high", "the learning rate is too high: the weights have run away",
            f"numbers of {highest:,.0f} in size flow between the blocks, 0.1 to 10 are usual{_beside(record)}",
            "train with a tenth of --optim.learning-rate (with muon of --optim.muon-learning-rate too), or with "
            "more --optim.warmup",
        )  # fmt: skip


def rate_too_low(record: RunRecord) -> Iterator[Finding]:
    rates = {line.step: line.lr for line in record.lines}
    peak = max(rates.values(), default=0.0)
    at_peak = [
        ratio * peak / rates[line["step"]]
        for line in _lines(record)
        if rates.get(line["step"])
        for ratio in _values([*line["layers"], line.get("embedding"), line.get("head")], "update_ratio")
    ]
    if not at_peak or peak <= 0 or not _learned_little(record):
        return
    largest, steps = max(at_peak), record.lines[-1].step
    share = statistics.fmean(rates.values()) / peak  # of the peak, over the run
    if 0 < largest < SMALL_UPDATE and largest * share * steps < UNMOVED:
        yield Finding(
            "learning_rate_too_low", "the learning rate is too low",
            f"a step changes weights by {largest:.1e} of their size or less, 1e-3 to 3e-2 are usual{_beside(record)}",
            "train with ten times --optim.learning-rate (with muon of --optim.muon-learning-rate too)",
        )  # fmt: skip


def idle_layers(record: RunRecord) -> Iterator[Finding]:
    lines = [_values(line["layers"], "update_ratio") for line in _lines(record)]
    if not lines or len({len(line) for line in lines}) > 1 or len(lines[0]) < 2:
        return
    ratios = [max(ratios) for ratios in zip(*lines, strict=True)]  # of each block, the largest of the run
    usual = max(ratios)
    idle = [layer for layer, ratio in enumerate(ratios) if ratio < IDLE * usual]
    if idle:
        gradients = [_values(line["layers"], "gradient_norm") for line in _lines(record)]
        taught = max((line[idle[0]] for line in gradients if len(line) == len(ratios)), default=0.0)
        yield Finding(
            "idle_layer", f"block {', '.join(map(str, idle))} of {len(ratios)} does not learn",
            f"a step changes its weights by {ratios[idle[0]]:.1e} of their size, those of others by {usual:.1e}; the "
            f"norm of its gradient is {taught:.1e}",
            "where it is not meant to be frozen: see that the optimiser is given its weights and that the block is "
            "used, and look for a scale near 0 after it",
        )  # fmt: skip


def dead_units(record: RunRecord) -> Iterator[Finding]:
    lines = _lines(record)
    shares = _values(lines[-1]["layers"], "dead_units") if lines else []
    dead = [layer for layer, share in enumerate(shares) if share > MANY_DEAD]
    if dead:
        worst = max(dead, key=lambda layer: shares[layer])
        yield Finding(
            "dead_units", f"units of the feed-forward are dead in {len(dead)} of {len(shares)} blocks",
            f"{shares[worst]:.0%} of those in block {worst} stay at 0 whatever the text",
            "lower --optim.learning-rate, or look at the first weights and biases: a unit that is never "
            "positive gets no gradient",
        )  # fmt: skip


def too_little_data(record: RunRecord) -> Iterator[Finding]:
    parameters, lines, text = number(record.predicted, "parameters"), _lines(record), record.text
    last = lines[-1] if lines else {}
    train, val = number(last, "train_bpb"), number(last, "val_bpb")
    if not (parameters and text) or train is None or val is None:
        return
    if text.train_tokens < TOKENS_PER_PARAMETER * parameters and train < (1 - GAP) * val:
        yield Finding(
            "too_little_data", "there is too little text for a model of this size",
            f"{parameters:,} parameters and {text.train_tokens:,} tokens to learn from; {train:.2f} bits per byte "
            f"while training, {val:.2f} on the validation text",
            "give more text, or a smaller model; --minutes chooses one that suits the text",
        )  # fmt: skip


def behind_counting(record: RunRecord) -> Iterator[Finding]:
    counted, score = record.ngrams, record.score
    if counted and score and score > BEHIND * counted["2"]:
        yield Finding(
            "behind_counting", "it is not yet as good as counting which token follows which",
            f"{score:.3f} bits per byte, {counted['2']:.3f} by counting pairs, {counted['3']:.3f} by threes",
            "train longer: this run stopped long before it had learned what there is to learn",
        )  # fmt: skip


def _lines(record: RunRecord) -> list[Mapping[str, Any]]:
    """Those with the values of blocks."""
    return [line for line in record.health if isinstance(line.get("layers"), list)]


def _values(parts: Sequence[Any], name: str) -> list[float]:
    """What is there of `name`."""
    values = [number(part, name) for part in parts if isinstance(part, dict)]
    return [value for value in values if value is not None]


def _learned_little(record: RunRecord) -> bool:
    score, counted = record.score, record.ngrams
    return bool(score and counted and score > LEARNED_LITTLE * counted["1"])


def _beside(record: RunRecord) -> str:
    """The score beside what the frequencies of the tokens alone reach."""
    score, counted = record.score, record.ngrams
    if not score or not counted:
        return ""
    return f"; {score:.2f} bits per byte, {counted['1']:.2f} by how often each token comes"
