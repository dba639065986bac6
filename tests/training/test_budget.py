"""A run's time, played through on a clock of numbers: whatever the machine does, it ends when it should."""

from collections.abc import Callable

import pytest

from glassgpt.optim.schedule import StepPlan
from glassgpt.training.budget import REVIEWS, Budget, Costs, on_the_way, tolerance


def play(
    seconds: float, step_seconds: Callable[[float], float], guess: float, *, evaluations: int = 0
) -> tuple[float, StepPlan, Budget]:
    """When a run ends whose step takes `step_seconds(now)` and was thought to take `guess`."""
    costs = Costs(step=guess, save=0.1, evaluation=0.3, sample=0.2, rest=2.0)
    budget = Budget(seconds, costs, evaluations)
    now, step = 3.0, 0
    plan = budget.first_plan(step, now)
    while True:
        plan = budget.review(plan, step, now) or plan
        parts = evaluations + 1
        if 0 < step < plan.total_steps and int(parts * plan.progress(step)) > int(parts * plan.progress(step - 1)):
            now += costs.save + costs.evaluation + costs.sample
        if step >= plan.total_steps:
            return now + costs.closing, plan, budget
        took = step_seconds(now)
        now, step = now + took, step + 1
        budget.stepped(took)


MACHINES: dict[str, Callable[[float], float]] = {
    "steady": lambda share: 1.0,
    "three times slower from the middle on": lambda share: 1.0 if share < 0.5 else 3.0,
    "three times faster from the middle on": lambda share: 3.0 if share < 0.5 else 1.0,
    "twice as slow near the end": lambda share: 1.0 if share < 0.92 else 2.0,
    "twice as fast near the end": lambda share: 2.0 if share < 0.92 else 1.0,
    "uneven": lambda share: 0.5 if int(600 * share) % 3 else 2.5,
    "stopped for a tenth of the time": lambda share: 100.0 if 0.6 < share < 0.61 else 1.0,
}
"""How long a step takes, in thousandths of the budget, when so much of it has passed."""


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("guess", [0.2, 1.0, 10.0])
@pytest.mark.parametrize(("seconds", "evaluations"), [(14, 0), (60, 1), (600, 9)])
def test_a_run_ends_on_time(machine: str, guess: float, seconds: float, evaluations: int) -> None:
    unit = seconds / 1000
    end, plan, _ = play(
        seconds, lambda now: unit * MACHINES[machine](now / seconds), guess * unit, evaluations=evaluations
    )
    assert abs(end - seconds) <= tolerance(seconds)
    assert len(plan.entries) <= 40, "a plan is not made anew all the time"


def test_a_steady_machine_is_reviewed_at_the_fixed_shares_only() -> None:
    _, plan, _ = play(600, lambda now: 0.2, 0.2)
    assert len(plan.entries) == 1 + len(REVIEWS)
    assert [round(3 / 600 + start * 0.2 / 600, 2) for start, _ in plan.entries[1:]] == list(REVIEWS)


def test_nothing_is_wasted_on_a_steady_machine() -> None:
    end, plan, budget = play(14, lambda now: 0.01, 0.01)
    assert plan.total_steps == pytest.approx((14 - 3 - budget.costs.closing) / 0.01, abs=3)
    assert 14 - 0.05 < end <= 14


def test_a_machine_that_stops_for_longer_than_the_time_left_ends_the_run_at_once() -> None:
    end, plan, _ = play(20, lambda now: 60.0 if now > 10 else 0.02, 0.02)
    assert plan.entries[-1][0] == plan.entries[-1][1], "no step after it"
    assert end > 60


def test_a_recorded_plan_is_followed_before_anything_is_planned_anew() -> None:
    budget = Budget(100, Costs(0.02, 0.1, 0.3, 0.2, 0), evaluations=0)
    recorded = StepPlan(((0, 4000), (1000, 9000)))
    for step in range(1000):
        budget.stepped(0.5)
        assert budget.review(recorded, step, now=10 + step / 10) is None
    assert budget.review(recorded, 1000, now=110.0) is not None


def test_short_runs_evaluate_once_and_longer_ones_within_their_share() -> None:
    assert on_the_way(14, 0.3, 1e-5, 64, 50_000, None) == (0, 50_000)
    number, tokens = on_the_way(60, 0.3, 1e-5, 64, 500_000, None)
    assert number == 1
    assert tokens % 64 == 1
    assert 0.3 + tokens * 1e-5 == pytest.approx(0.03 * 60, rel=0.01)
    assert on_the_way(600, 0.3, 1e-5, 64, 50_000, None) == (9, 50_000), "no more than there is"
    assert on_the_way(600, 9.0, 1e-3, 64, 50_000, None)[0] == 1, "saving a large model takes its share"
    assert on_the_way(600, 0.3, 1e-5, 64, 50_000, 3)[0] == 3, "as the user wants"
