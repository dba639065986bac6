"""How fast this machine is: a step of a given model, and the pair of numbers that any model's step follows from.

Both are measured with real steps that leave no trace.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable

import torch

from glassgpt.config import GPTConfig, OptimConfig, RunConfig
from glassgpt.data.batches import Batches
from glassgpt.model import GPTModel
from glassgpt.optim.groups import make_optimizer
from glassgpt.optim.optimizer import Optimizer
from glassgpt.planning.choose import Speed
from glassgpt.planning.flops import flops_per_token
from glassgpt.training.native_loss import NativeLoss
from glassgpt.training.step import NextTokenLoss, training_loss, training_step

_SMALL = GPTConfig(architecture="modern", vocab_size=256, context_length=32, embedding_dim=32, n_heads=1, n_layers=4)
PROBED = GPTConfig(architecture="modern", vocab_size=256, context_length=64, embedding_dim=256, n_heads=8, n_layers=2)


def seconds_per_step(
    loss_of: NextTokenLoss | NativeLoss,
    optimizer: Optimizer,
    batches: Batches,
    accumulation: int,
    budget: float = 1.0,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """The median time of a few whole steps: two at least, more while `budget` seconds last.

    The learning rate is 0, so no weight moves, and the optimiser's state is cleared afterwards.
    """
    device = next(loss_of.model.parameters()).device
    times: list[float] = []
    while len(times) < 2 or (sum(times) < budget and len(times) < 20):
        before = clock()
        ids, targets = (tensor.to(device) for tensor in batches.batch(len(times)))
        training_step(loss_of, optimizer, ids, targets, learning_rate=0.0, grad_clip=1.0, accumulation=accumulation)
        times.append(clock() - before)
    optimizer.reset()
    optimizer.zero_grad()
    return statistics.median(times[1:])


def machine_speed(run: RunConfig) -> Speed:
    """What `Speed` says of this machine, in about 0.2 s, by a model of small layers and one of wide ones.

    `run` has its device, dtype, linear and threads settled.
    """
    torch.set_num_threads(run.threads)
    small, _ = _step(_SMALL, 4, run, n_steps=6)
    seconds_per_layer = small / (_SMALL.n_layers + 1)  # its arithmetic is nothing beside its calls
    wide, flops = _step(PROBED, 12, run, n_steps=4)
    arithmetic = max(wide - (PROBED.n_layers + 1) * seconds_per_layer, wide / 4)  # a disturbed measurement
    return Speed(flops_per_s=flops / arithmetic, seconds_per_layer=seconds_per_layer)


def speed_of(model: GPTConfig, run: RunConfig) -> Speed:
    """How fast a large `model` trains, by steps of two of its layers on 512 tokens, in about half a second.

    `machine_speed` knows models of up to a few hundred columns; of wider ones it says too little.
    """
    torch.set_num_threads(run.threads)
    part = slice_of(model)
    seconds, flops = _step(part, 512 // part.context_length, run, n_steps=3)
    return Speed(flops_per_s=flops / seconds, seconds_per_layer=0.0)


def slice_of(model: GPTConfig) -> GPTConfig:
    """Two layers of it, with a context and a vocabulary that cost little."""
    context_length, vocab_size = min(512, model.context_length), min(4096, model.vocab_size)
    return dataclasses.replace(
        model, n_layers=min(2, model.n_layers), context_length=context_length, vocab_size=vocab_size
    )


def _step(config: GPTConfig, batch_size: int, run: RunConfig, n_steps: int) -> tuple[float, int]:
    """The shortest of a few steps, and the FLOPs of one."""
    model = GPTModel(config).to(run.device)
    optim = OptimConfig(batch_size=batch_size)
    ids = torch.zeros(batch_size, config.context_length, dtype=torch.int64, device=run.device)
    loss_of, optimizer = training_loss(model, run), make_optimizer(model, optim)
    times: list[float] = []
    for _ in range(n_steps):
        before = time.perf_counter()
        training_step(loss_of, optimizer, ids, ids, learning_rate=0.0, grad_clip=1.0)
        times.append(time.perf_counter() - before)
    return min(times[1:]), sum(flops_per_token(config).values()) * ids.numel()
