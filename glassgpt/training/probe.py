"""How long a step takes on this machine, measured with real steps that leave no trace."""

import statistics
import time

from glassgpt.data.batches import Batches
from glassgpt.optim.optimizer import Optimizer
from glassgpt.training.native_loss import NativeLoss
from glassgpt.training.step import NextTokenLoss, training_step


def seconds_per_step(
    loss_of: NextTokenLoss | NativeLoss,
    optimizer: Optimizer,
    batches: Batches,
    accumulation: int,
    budget: float = 1.0,
) -> float:
    """The median time of a few whole steps: two at least, more while `budget` seconds last.

    The learning rate is 0, so no weight moves, and the optimiser's state is cleared afterwards.
    """
    device = next(loss_of.model.parameters()).device
    times: list[float] = []
    while len(times) < 2 or (sum(times) < budget and len(times) < 20):
        ids, targets = (tensor.to(device) for tensor in batches.batch(len(times)))
        before = time.perf_counter()
        training_step(loss_of, optimizer, ids, targets, learning_rate=0.0, grad_clip=1.0, accumulation=accumulation)
        times.append(time.perf_counter() - before)
    optimizer.reset()
    optimizer.zero_grad()
    return statistics.median(times[1:])
