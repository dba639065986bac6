from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from glassgpt.config import OptimConfig
from glassgpt.optim.schedule import StepPlan, learning_rate


def rates(plan: StepPlan, **fields: object) -> list[float]:
    config = OptimConfig(**fields)  # pyrefly: ignore
    return [learning_rate(step, plan, config) for step in range(plan.total_steps)]


@st.composite
def plans(draw: st.DrawFn) -> StepPlan:
    """A plan as a run makes it: each entry begins before the end that the one before it foresaw."""
    plan = StepPlan.of(draw(st.integers(2, 500)))
    for _ in range(draw(st.integers(0, 6))):
        first, total = plan.entries[-1]
        if total - first < 2:
            break
        start = draw(st.integers(first + 1, total - 1))
        plan = plan.extended(start, draw(st.integers(start, start + 500)))
    return plan


def test_the_rate_rises_through_the_warmup_then_decays_to_the_minimum_just_after_the_last_step() -> None:
    config = {"warmup": 50, "learning_rate": 1.0, "min_learning_rate": 0.1}
    for schedule in ("cosine", "linear"):
        values = rates(StepPlan.of(200), schedule=schedule, **config)
        assert values[:50] == sorted(values[:50])
        assert values[50:] == sorted(values[50:], reverse=True)
        assert values[50] == pytest.approx(1.0)
        assert values[-1] > 0.1, "a last step at the minimum could be one that changes nothing"
        after = learning_rate(200, StepPlan.of(200), OptimConfig(schedule=schedule, **config))  # pyrefly: ignore
        assert after == pytest.approx(0.1)
        assert values[0] == pytest.approx(1 / 51)


def test_half_way_through_its_decay_the_cosine_is_half_way_down() -> None:
    values = rates(StepPlan.of(100), schedule="cosine", warmup=0, learning_rate=1.0)
    assert values[50] == pytest.approx(0.5)
    assert values[25] == pytest.approx(0.5 + 0.5 * 2**-0.5)


def test_constant_stays_and_a_short_run_warms_up_for_half_of_it_at_most() -> None:
    assert set(rates(StepPlan.of(20), schedule="constant", warmup=0, learning_rate=0.3)) == {0.3}
    assert max(rates(StepPlan.of(10), warmup=100, learning_rate=1.0)) == pytest.approx(1.0)


def test_a_longer_plan_goes_on_from_where_the_run_is_and_ends_at_one() -> None:
    plan = StepPlan(((0, 100), (50, 200)))
    assert [plan.progress(step) for step in (0, 25, 50, 125, 200)] == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    shorter = plan.extended(125, 126)
    assert shorter.progress(125) == pytest.approx(0.75)
    assert shorter.progress(126) == pytest.approx(1)
    assert plan.extended(50, 80).entries == ((0, 100), (50, 80)), "an entry that has not acted yet is replaced"


@given(plans(), st.sampled_from(["cosine", "linear"]), st.integers(0, 80))
@example(StepPlan(((0, 2), (1, 7), (6, 177), (176, 511), (510, 944))), "cosine", 0)  # 1 + cos is 0 before the last step
def test_the_rate_of_every_plan_decays_without_a_jump_to_zero(plan: StepPlan, schedule: str, warmup: int) -> None:
    shares = [plan.progress(step) for step in range(plan.total_steps + 1)]
    assert shares[0] == 0
    assert shares == sorted(shares)
    last, total = plan.entries[-1]
    if total > last:
        assert shares[-1] == pytest.approx(1)
        slopes = [right - left for left, right in pairwise(shares)]
        assert max(slopes) <= max(1 / (n - s) for s, n in plan.entries if n > s) + 1e-9
    values = rates(plan, schedule=schedule, warmup=warmup, learning_rate=1.0)
    begins = min(warmup, plan.entries[0][1] // 2)
    assert all(left >= right - 1e-12 for left, right in pairwise(values[begins:]))
    assert all(value > 0 for value in values)


@given(plans())
def test_an_entry_changes_nothing_that_was_done_before_it(plan: StepPlan) -> None:
    shorter = StepPlan(plan.entries[:-1]) if len(plan.entries) > 1 else plan
    config = OptimConfig(warmup=7)
    for step in range(plan.entries[-1][0]):
        assert plan.progress(step) == shorter.progress(step)
        assert learning_rate(step, plan, config) == learning_rate(step, shorter, config), "bit for bit"


@pytest.mark.parametrize("entries", [(), ((1, 5),), ((0, 5), (0, 6)), ((0, 5), (4, 3))])
def test_a_plan_that_cannot_be_followed_is_refused(entries: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(ValueError, match="from_step, total_steps"):
        StepPlan(entries)
