"""The learning rate as a pure function of the step and the plan."""

import math

from glassgpt.config import OptimConfig


def learning_rate(step: int, total_steps: int, config: OptimConfig) -> float:
    """The rate of step `step` (from 0) of `total_steps`: a linear rise over `warmup` steps, then the schedule's decay.

    The cosine is that of Loshchilov & Hutter 2017 without restarts. The last step has min_learning_rate.
    """
    high, low = config.learning_rate, config.min_learning_rate
    warmup = min(config.warmup, total_steps // 2)
    if step < warmup:
        return high * (step + 1) / (warmup + 1)
    done = (step - warmup) / max(1, total_steps - 1 - warmup)  # 0 ... 1
    if config.schedule == "cosine":
        return low + (high - low) * (1 + math.cos(math.pi * min(1.0, done))) / 2
    if config.schedule == "linear":
        return high + (low - high) * min(1.0, done)
    return high
