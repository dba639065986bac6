import pytest

from glassgpt.config import GPTConfig, OptimConfig, RunConfig, preset
from glassgpt.planning.fit import inside, least
from glassgpt.planning.memory import training_memory

MODEL = GPTConfig.from_dict(preset("gpt2-small") | {"context_length": 512, "dropout_rate": 0.0})
OPTIM = OptimConfig(batch_size=12)
RUN = RunConfig(kernel="torch", dtype="bf16")


def total(accumulation: int, recompute: bool) -> int:
    parts = OptimConfig(batch_size=12, accumulation=accumulation)
    return training_memory(MODEL, parts, RunConfig(kernel="torch", dtype="bf16", recompute=recompute))["total"]


def test_less_and_less_memory_costs_parts_then_recomputing_then_both() -> None:
    settings = []
    for limit in range(total(1, False) + 10**6, least(MODEL, OPTIM, RUN) - 1, -(10**7)):
        found = inside(MODEL, OPTIM, RUN, limit)
        assert found is not None
        optim, run = found
        assert training_memory(MODEL, optim, run)["total"] <= limit
        if (optim.accumulation, run.recompute) not in settings:
            settings.append((optim.accumulation, run.recompute))
    assert settings[0] == (1, False)
    assert settings[-1][1] is True
    assert [again for _, again in settings] == sorted(again for _, again in settings), "parts of 1,024 tokens first"


def test_what_cannot_fit_is_none_and_the_least_is_the_most_frugal_that_fits() -> None:
    smallest = least(MODEL, OPTIM, RUN)
    assert inside(MODEL, OPTIM, RUN, smallest - 1) is None
    assert inside(MODEL, OPTIM, RUN, smallest) is not None


def test_what_was_stated_is_kept() -> None:
    stated = RunConfig(kernel="torch", dtype="bf16", recompute=False)
    found = inside(MODEL, OptimConfig(batch_size=12, accumulation=2), stated, total(4, False))
    assert found is not None
    assert (found[0].accumulation, found[1].recompute) == (4, False)
    assert inside(MODEL, OPTIM, stated, total(1, True)) is None or total(12, False) <= total(1, True)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_recomputing_takes_less_than_keeping(dtype: str) -> None:
    kept, again = (training_memory(MODEL, OPTIM, RunConfig(dtype=dtype, recompute=r)) for r in (False, True))
    assert again["activations"] < kept["activations"] / 3
    assert again["total"] < kept["total"]
