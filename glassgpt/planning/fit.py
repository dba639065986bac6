"""Which settings keep training inside a limit of memory."""

import dataclasses
from collections.abc import Iterator
from math import isqrt

from glassgpt.config import PRESETS, GPTConfig, OptimConfig, RunConfig
from glassgpt.planning.memory import INTERPRETER, training_memory
from glassgpt.planning.parameters import total_parameters

FED = 1024
"""Tokens at a time that keep matrix products busy: parts of fewer come after computing activations again."""


def inside(
    config: GPTConfig, optim: OptimConfig, run: RunConfig, limit: int, interpreter: int = INTERPRETER
) -> tuple[OptimConfig, RunConfig] | None:
    """The settings that cost the least time of those whose training is predicted to stay inside `limit` bytes.

    A batch may be computed in more parts than `optim` says, and activations again where `run.recompute` is None.
    None where nothing of that suffices.
    """
    for parts, settled in _candidates(config, optim, run):
        if training_memory(config, parts, settled, interpreter)["total"] <= limit:
            return parts, settled
    return None


def least(config: GPTConfig, optim: OptimConfig, run: RunConfig, interpreter: int = INTERPRETER) -> int:
    """The bytes of the most frugal of those settings."""
    return min(
        training_memory(config, *candidate, interpreter)["total"] for candidate in _candidates(config, optim, run)
    )


def what_fits(config: GPTConfig, optim: OptimConfig, run: RunConfig, limit: int) -> str:
    """What to change of a model so that its training stays inside `limit` bytes, as the end of a sentence.

    The smaller parts of the batch where these suffice, else a model of fewer layers, or the largest preset that fits.
    """
    free = dataclasses.replace(run, recompute=None)
    if found := inside(config, optim, free, limit):
        parts = found[0]
        micro = f"{parts.batch_size // parts.accumulation} x {config.context_length:,} tokens at a time"
        flags = " ".join(_flags_of_parts(optim, *found))
        return f"give {flags} ({micro}), or --run.max-memory {limit / 1e9:.1f}GB, and they are chosen"
    layers = _most_layers(config, optim, free, limit)
    fewer = [f"--model.n-layers {layers}"] * bool(layers)
    presets = [name for name in PRESETS if _preset_fits(name, config, optim, free, limit)]
    largest = max(presets, key=lambda name: total_parameters(GPTConfig.from_dict(PRESETS[name])), default=None)
    sizes = " or ".join(fewer + [f"--preset {largest}"] * bool(largest))
    if not sizes:
        return "take a smaller --optim.batch-size, --model.context-length, --model.embedding-dim or vocabulary"
    return f"the largest that fits is {sizes}, with --run.max-memory {limit / 1e9:.1f}GB"


def flags_that_fit(config: GPTConfig, optim: OptimConfig, run: RunConfig, limit: int) -> list[str] | None:
    """The first of what `what_fits` names, as flags of `train`; None where it names none."""
    free = dataclasses.replace(run, recompute=None)
    if found := inside(config, optim, free, limit):
        return _flags_of_parts(optim, *found)
    if layers := _most_layers(config, optim, free, limit):
        return ["--model.n-layers", str(layers), "--run.max-memory", f"{limit / 1e9:.1f}GB"]
    return None


def _flags_of_parts(optim: OptimConfig, parts: OptimConfig, settled: RunConfig) -> list[str]:
    flags = ["--optim.accumulation", str(parts.accumulation)] if parts.accumulation > optim.accumulation else []
    return flags + ["--run.recompute"] * bool(settled.recompute)


def _most_layers(config: GPTConfig, optim: OptimConfig, run: RunConfig, limit: int) -> int:
    """The most layers of this width that fit; 0 where not even one does."""
    fit, too_many = 0, config.n_layers
    while too_many - fit > 1:
        middle = (fit + too_many) // 2
        shallower = dataclasses.replace(config, n_layers=middle)
        fit, too_many = (middle, too_many) if inside(shallower, optim, run, limit) else (fit, middle)
    return fit


def _preset_fits(name: str, config: GPTConfig, optim: OptimConfig, run: RunConfig, limit: int) -> bool:
    """Whether a preset of the same architecture does, with this vocabulary and context."""
    kept = {"vocab_size": config.vocab_size, "context_length": config.context_length}
    preset = GPTConfig.from_dict(PRESETS[name] | kept)
    return preset.architecture == config.architecture and inside(preset, optim, run, limit) is not None


def _divisors(n: int) -> list[int]:
    small = [d for d in range(1, isqrt(n) + 1) if n % d == 0]
    return sorted({*small, *(n // d for d in small)})


def _candidates(config: GPTConfig, optim: OptimConfig, run: RunConfig) -> Iterator[tuple[OptimConfig, RunConfig]]:
    """From the fastest to the most frugal."""
    kept, again = (dataclasses.replace(run, recompute=wanted) for wanted in (False, True))
    if run.kernel == "native":  # it has few activations and takes some sequences at a time as it is
        yield optim, kept
        return
    every = [dataclasses.replace(optim, accumulation=n) for n in _divisors(optim.batch_size) if n >= optim.accumulation]
    fed = [parts for parts in every if config.context_length * optim.batch_size // parts.accumulation >= FED]
    if not run.recompute:
        yield from ((parts, kept) for parts in (every if run.recompute is False else fed or every[:1]))
    if run.recompute is not False:
        yield from ((parts, again) for parts in every)
