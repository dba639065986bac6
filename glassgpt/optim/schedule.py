"""The plan of a run's steps, and the learning rate as a pure function of (step, plan)."""

import math
from dataclasses import dataclass

from glassgpt.config import OptimConfig


@dataclass(frozen=True)
class StepPlan:
    """How long a run is, as decided so far: `entries` of (from_step, total_steps), the first from step 0.

    A run of a given number of steps has one entry. A run of minutes gets more while it goes, as its speed is
    measured: from `from_step` on, `total_steps` is its length. What was done before an entry is never changed by it.
    """

    entries: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        starts = [start for start, _ in self.entries]
        if not starts or starts[0] != 0 or starts != sorted(set(starts)) or any(n < s for s, n in self.entries):
            raise ValueError(f"a plan has entries (from_step, total_steps), the first from step 0: {self.entries}")

    @classmethod
    def of(cls, total_steps: int) -> "StepPlan":
        """The plan of a run whose length is known."""
        return cls(((0, total_steps),))

    @property
    def total_steps(self) -> int:
        """The length of the run by the last entry."""
        return self.entries[-1][1]

    def extended(self, from_step: int, total_steps: int) -> "StepPlan":
        """The plan with one more entry; it replaces one that begins at the same step, which has not acted yet."""
        kept = tuple(entry for entry in self.entries if entry[0] < from_step)
        return StepPlan((*kept, (from_step, total_steps)))

    def progress(self, step: int) -> float:
        """The share of the run that is done before step `step`: 0 at the first step, 1 after the last.

        Piecewise linear and without a jump: where an entry begins at step s with the share f done, it spreads the
        other 1 - f evenly over its steps up to total_steps N, so f(step) = f + (1 - f)(step - s) / (N - s).
        """
        done = 0.0
        ends = [start for start, _ in self.entries[1:]] + [self.total_steps]
        for (start, total), end in zip(self.entries, ends, strict=True):
            if step < start:
                break
            reached = min(step, end)
            done += (1 - done) * ((reached - start) / (total - start) if total > start else 1.0)
        return done


def learning_rate(step: int, plan: StepPlan, config: OptimConfig) -> float:
    """The rate of step `step` (from 0): a linear rise over `warmup` steps, then the schedule's decay.

    The decay reaches min_learning_rate just after the last step, so that no step is spent on a rate of 0. The cosine
    is that of Loshchilov & Hutter 2017 without restarts. Warm-up takes at most half of the steps first planned.
    """
    high, low = config.learning_rate, config.min_learning_rate
    warmup = min(config.warmup, plan.entries[0][1] // 2)
    if step < warmup:
        return high * (step + 1) / (warmup + 1)
    warm = plan.progress(warmup)
    done = (plan.progress(step) - warm) / (1 - warm) if warm < 1 else 1.0  # 0 ... 1
    if config.schedule == "cosine":
        return low + (high - low) * math.cos(math.pi / 2 * done) ** 2  # (1 + cos(pi done)) / 2, exact near its end too
    if config.schedule == "linear":
        return high + (low - high) * done
    return high
