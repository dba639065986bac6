"""Keeping a run to its time: how many steps fit, reviewed as the run goes.

The plan of the steps (`StepPlan`) is made from measured speed, and made anew at fixed shares of the budget. Near the
end the clock is looked at after every step. Everything that is to come is counted: evaluations and saves on the way,
the last of each, the rest of the validation text, leaving.
"""

import math
from dataclasses import dataclass

from glassgpt.optim.schedule import StepPlan

REVIEWS = (0.10, 0.25, 0.50, 0.75, 0.90, 0.97)
"""Shares of the budget at which the plan is made anew."""
TAIL = 0.90
"""From this share on, a plan that would miss the budget is made anew at once."""
TAIL_MEMORY = 0.01
"""Share of the budget, at least a second, over which the time of a step is forgotten there."""
SAVE_INTERVAL, SAVE_SHARE = 60.0, 0.1
"""Between checkpoints, besides those of evaluations: seconds, or a share of a short run; more where saving is slow."""


EVALUATION_SHARE = 0.03
"""Of a run's work that may go into evaluations on the way: they use as much of the validation text as fits."""


def on_the_way(
    seconds: float, each_time: float, seconds_per_token: float, window: int, val_tokens: int, evaluations: int | None
) -> tuple[int, int]:
    """How many evaluations on the way a run of `seconds` affords, and on how many tokens.

    One costs `each_time` (a checkpoint, a sample of writing) and the tokens, whole windows and one more. Short runs
    have none: then the evaluation at the end, of all `val_tokens`, is the only one. `evaluations` is how many the user
    wants, None where that is open.
    """
    share = EVALUATION_SHARE * seconds
    number = evaluations
    if number is None:
        wanted = 0 if seconds < 30 else 1 if seconds < 120 else 9
        number = min(wanted, int(share / (each_time + 16 * window * seconds_per_token)))
    if number == 0:
        return 0, val_tokens
    windows = max(16, int((share / number - each_time) / max(1e-9, seconds_per_token) / window))
    return number, min(val_tokens, windows * window + 1)


def tolerance(seconds: float) -> float:
    """By how much a run may miss its budget: 2 %, or 2 s where that is more."""
    return max(2.0, 0.02 * seconds)


@dataclass
class Costs:
    """What things take here, in seconds: measured by the probe, then by the run itself."""

    step: float
    save: float
    evaluation: float
    """Of the part of the validation text that is used on the way."""
    sample: float
    """A sample of writing and the curve, after each evaluation."""
    rest: float
    """Evaluating the rest of the validation text, as a multiple of `evaluation`."""
    report: float = 0.0
    """What comes after the last evaluation: the report."""
    leaving: float = 0.1
    """And the exit of the process."""

    @property
    def closing(self) -> float:
        """From the last step to the exit."""
        return self.save + self.evaluation * (1 + self.rest) + self.sample + self.report + self.leaving


class Budget:
    """The seconds of a run, what was measured, and when the plan is due for a review."""

    def __init__(
        self, seconds: float, costs: Costs, evaluations: int, eval_every: int = 0, save_every: int = 0
    ) -> None:
        self.seconds, self.costs = seconds, costs
        self.evaluations, self.eval_every, self.save_every = evaluations, eval_every, save_every
        self._reviewed: float | None = None  # the share of the run at the last review
        self._steps, self._in_steps = 0.0, 0.0  # since then; in the tail old steps count less and less

    def first_plan(self, step: int, now: float) -> StepPlan:
        """The plan where there is none yet: one more step at least."""
        self._reviewed = now / self.seconds
        return StepPlan.of(max(step + 1, self._total_steps(step, now, 0.0)))

    @property
    def in_tail(self) -> bool:
        """Whether any step may turn out to be the last."""
        return self._reviewed is not None and self._reviewed >= TAIL

    def stepped(self, seconds: float) -> None:
        """A step was done, and took this long."""
        kept = math.exp(-seconds / max(1.0, TAIL_MEMORY * self.seconds)) if self.in_tail else 1.0
        self._steps = kept * self._steps + 1
        self._in_steps = kept * self._in_steps + seconds

    def review(self, plan: StepPlan, step: int, now: float) -> StepPlan | None:
        """A new plan, where one is due. What a plan says beforehand about later steps is kept to."""
        progress = plan.progress(step)
        share = max(now / self.seconds, progress)
        if self._reviewed is None:  # resumed: what was due earlier was done
            self._reviewed = share
        enough = self._steps >= 3 or self._in_steps > 0.02 * self.seconds
        if step < plan.entries[-1][0] or step >= plan.total_steps or not enough:
            return None
        due = any(self._reviewed < review <= share for review in REVIEWS)
        if not due and share < TAIL:
            return None
        self.costs.step = self._in_steps / self._steps
        total = self._total_steps(step, now, progress)
        if not due and abs(total - plan.total_steps) * self.costs.step < tolerance(self.seconds) / 4:
            return None
        self._reviewed = share
        if share < TAIL:
            self._steps, self._in_steps = 0.0, 0.0
        return plan.extended(step, total)

    def save_is_due(self, seconds_since: float, now: float) -> bool:
        """Whether so much work would be lost that a checkpoint is worth its time."""
        interval = max(min(SAVE_INTERVAL, SAVE_SHARE * self.seconds), 100 * self.costs.save)
        return seconds_since >= interval and now + interval < self.seconds

    def _total_steps(self, step: int, now: float, progress: float) -> int:
        """How many steps the run will have, when `step` of them are done after `now` seconds."""
        costs = self.costs
        left, each = self.seconds - now - costs.closing, costs.step
        if self.eval_every:
            each += (costs.evaluation + costs.sample) / self.eval_every
        else:
            to_come = self.evaluations - int(progress * (self.evaluations + 1))
            left -= max(0, to_come) * (costs.save + costs.evaluation + costs.sample)
        if self.save_every:
            each += costs.save / self.save_every
        return step + max(0, int(left / max(each, 1e-6)))
