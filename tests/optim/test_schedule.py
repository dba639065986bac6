import pytest

from glassgpt.config import OptimConfig
from glassgpt.optim.schedule import learning_rate


def rates(total: int, **fields: object) -> list[float]:
    config = OptimConfig(**fields)  # pyrefly: ignore
    return [learning_rate(step, total, config) for step in range(total)]


def test_the_rate_rises_through_the_warmup_then_decays_to_the_minimum() -> None:
    for schedule in ("cosine", "linear"):
        values = rates(200, schedule=schedule, warmup=50, learning_rate=1.0, min_learning_rate=0.1)
        assert values[:50] == sorted(values[:50])
        assert values[50:] == sorted(values[50:], reverse=True)
        assert values[50] == pytest.approx(1.0)
        assert values[-1] == pytest.approx(0.1)
        assert values[0] == pytest.approx(1 / 51)


def test_half_way_through_its_decay_the_cosine_is_half_way_down() -> None:
    values = rates(101, schedule="cosine", warmup=0, learning_rate=1.0)
    assert values[50] == pytest.approx(0.5)
    assert values[25] == pytest.approx(0.5 + 0.5 * 2**-0.5)


def test_constant_stays_and_a_short_run_warms_up_for_half_of_it_at_most() -> None:
    assert set(rates(20, schedule="constant", warmup=0, learning_rate=0.3)) == {0.3}
    assert max(rates(10, warmup=100, learning_rate=1.0)) == pytest.approx(1.0)
