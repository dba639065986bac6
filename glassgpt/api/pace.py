"""How fast this machine trains a given model: measured, with nothing of it kept."""

import os
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from glassgpt.api.code import BUILT_IN
from glassgpt.api.machine import on_this_machine, with_matmul_dtype
from glassgpt.config import GPTConfig, OptimConfig, RunConfig
from glassgpt.data.batches import Batches
from glassgpt.model import GPTModel
from glassgpt.optim.groups import make_optimizer
from glassgpt.planning.choose import Speed
from glassgpt.planning.flops import flops_per_token
from glassgpt.planning.memory import training_memory
from glassgpt.planning.optimal import compute_optimal
from glassgpt.training.heap import keep_freed_memory
from glassgpt.training.machine_facts import memory_free
from glassgpt.training.probe import PROBED, machine_speed, seconds_per_step, slice_of, speed_of
from glassgpt.training.step import training_loss

LONGEST_STEP = 4.0
"""Seconds: a model whose step should take longer is not tried."""
LARGEST_SLICE = 5e11
"""FLOPs of a step of two layers on 512 tokens, from which that is not tried either."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Training a model on this machine."""

    measured: bool
    """By steps of this very model with its batch; else computed from the measured speed of a smaller one."""
    how: str
    """In words: by which steps."""
    step_seconds: float
    tokens_per_s: float
    seconds_per_million_tokens: float
    seconds_compute_optimal: float
    training_memory_bytes: int
    """Predicted, as this machine computes it: below."""
    device: str
    dtype: str
    kernel: str
    threads: int
    load: float | None
    """Processes that wanted a core in the minute before; None where the system does not tell."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def pace_here(config: GPTConfig, optim: OptimConfig, run: RunConfig) -> Pace:
    """Measure a few steps where their memory is free and one takes seconds at most; else a smaller model's.

    What `run` leaves to `auto` is settled as `train` does. Takes some seconds. Raises InputError for what cannot be
    computed here as `run` has it.
    """
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    run = on_this_machine(run, config, BUILT_IN)
    optim = with_matmul_dtype(optim, run.device)
    needed, free = training_memory(config, optim, run)["total"], memory_free()
    fits = run.device != "cpu" or free is None or needed < 0.9 * free
    speed = _speed(config, run, free)
    seconds, how = speed[0].step_seconds(config, optim), speed[1]
    measured = fits and seconds < LONGEST_STEP
    if measured:
        seconds, how = _step_seconds(config, optim, run), "steps of this model"
    elif not fits:
        how += f", as the {needed / 1e9:.1f} GB of this one are not free"
    tokens_per_s = optim.batch_size * config.context_length / seconds
    return Pace(
        measured=measured, how=how, step_seconds=seconds, tokens_per_s=tokens_per_s,
        seconds_per_million_tokens=1e6 / tokens_per_s,
        seconds_compute_optimal=compute_optimal(config).tokens / tokens_per_s,
        training_memory_bytes=needed, device=run.device, dtype=run.dtype, kernel=run.kernel, threads=run.threads,
        load=load,
    )  # fmt: skip


def _speed(config: GPTConfig, run: RunConfig, free: int | None) -> tuple[Speed, str]:
    """Of matrix products in training, by two layers of this width, or where these are too much by a small model."""
    part = slice_of(config)
    flops = 512 * sum(flops_per_token(part).values())
    room = training_memory(part, OptimConfig(batch_size=max(1, 512 // part.context_length)), run)["total"]
    if config.embedding_dim > PROBED.embedding_dim and flops < LARGEST_SLICE and (free is None or room < 0.9 * free):
        return speed_of(config, run), "steps of two of its layers"
    return machine_speed(on_this_machine(run, PROBED, BUILT_IN)), "steps of a small model"


def _step_seconds(config: GPTConfig, optim: OptimConfig, run: RunConfig) -> float:
    torch.set_num_threads(run.threads)
    keep_freed_memory()
    ids = np.arange(optim.batch_size * config.context_length + 1) % config.vocab_size
    batches = Batches(ids.astype(np.uint32), config.context_length, optim.batch_size, run.seed)
    model = GPTModel(config).to(run.device).train()
    optimizer = make_optimizer(model, optim)
    return seconds_per_step(training_loss(model, run), optimizer, batches, optim.accumulation)
