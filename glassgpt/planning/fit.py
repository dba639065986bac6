"""Which settings keep training inside a limit of memory."""

import dataclasses
from collections.abc import Iterator

from glassgpt.config import GPTConfig, OptimConfig, RunConfig
from glassgpt.planning.memory import INTERPRETER, training_memory

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


def _candidates(config: GPTConfig, optim: OptimConfig, run: RunConfig) -> Iterator[tuple[OptimConfig, RunConfig]]:
    """From the fastest to the most frugal."""
    kept, again = (dataclasses.replace(run, recompute=wanted) for wanted in (False, True))
    if run.kernel == "native":  # it has few activations and takes some sequences at a time as it is
        yield optim, kept
        return
    divisors = [n for n in range(optim.accumulation, optim.batch_size + 1) if optim.batch_size % n == 0]
    every = [dataclasses.replace(optim, accumulation=n) for n in divisors]
    fed = [parts for parts in every if config.context_length * optim.batch_size // parts.accumulation >= FED]
    if not run.recompute:
        yield from ((parts, kept) for parts in (every if run.recompute is False else fed or every[:1]))
    if run.recompute is not False:
        yield from ((parts, again) for parts in every)
