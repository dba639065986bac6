import re
import shlex

import pytest

from glassgpt.config import GPTConfig, OptimConfig, RunConfig, preset
from glassgpt.planning.fit import flags_that_fit, inside, least, what_fits
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


def test_advice_is_followed_and_fits() -> None:
    limit = total(2, False)
    advice = what_fits(MODEL, OPTIM, RUN, limit)
    assert advice.startswith("give --optim.accumulation 2 (6 x 512 tokens at a time), or --run.max-memory")
    tight = what_fits(MODEL, OPTIM, RUN, least(MODEL, OPTIM, RUN))
    assert "--run.recompute" in tight
    flags = shlex.split(tight.split("(")[0])
    parts = int(flags[flags.index("--optim.accumulation") + 1])
    assert total(parts, True) <= least(MODEL, OPTIM, RUN)


def test_where_no_parts_suffice_a_smaller_size_is_named_that_fits() -> None:
    large = GPTConfig.from_dict(preset("gpt2-xl") | {"context_length": 512})
    limit = int(0.6 * least(large, OPTIM, RUN))
    advice = what_fits(large, OPTIM, RUN, limit)
    layers = int(re.findall(r"--model.n-layers (\d+)", advice)[0])
    fitting, deeper = (GPTConfig.from_dict(large.to_dict() | {"n_layers": n}) for n in (layers, layers + 1))
    assert inside(fitting, OPTIM, RUN, limit) is not None
    assert inside(deeper, OPTIM, RUN, limit) is None
    name = re.findall(r"--preset (\S+),", advice)[0]
    assert inside(GPTConfig.from_dict(preset(name) | {"context_length": 512}), OPTIM, RUN, limit) is not None
    assert what_fits(large, OPTIM, RUN, 10**6).startswith("take a smaller")


def test_the_flags_that_fit_are_those_of_the_advice() -> None:
    large = GPTConfig.from_dict(preset("gpt2-xl") | {"context_length": 512})
    assert flags_that_fit(MODEL, OPTIM, RUN, total(1, False)) == []
    assert flags_that_fit(MODEL, OPTIM, RUN, total(2, False)) == ["--optim.accumulation", "2"]
    fewer = flags_that_fit(large, OPTIM, RUN, int(0.6 * least(large, OPTIM, RUN)))
    assert fewer is not None
    assert " ".join(fewer[:2]) in what_fits(large, OPTIM, RUN, int(0.6 * least(large, OPTIM, RUN)))
    assert flags_that_fit(large, OPTIM, RUN, 10**6) is None


def test_the_largest_config_that_there_can_be_is_answered() -> None:
    largest = {"n_layers": 10_000, "embedding_dim": 2**28, "n_heads": 1, "context_length": 2**31 - 1}
    config = GPTConfig.from_dict(largest | {"vocab_size": 2**31 - 1})
    assert what_fits(config, OptimConfig(batch_size=2**20), RUN, 10**10).startswith("take a smaller")
