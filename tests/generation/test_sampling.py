"""The sampler against a slow reference, its draws against their probabilities."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from glassgpt.generation.sampling import Sampling, choose, choose_plain, probabilities, uniform
from glassgpt.settings import InputError

scores = st.lists(st.integers(-40, 40).map(lambda n: n / 4), min_size=1, max_size=12)
seen = st.lists(st.integers(0, 11), max_size=20)
samplings = st.builds(
    Sampling,
    temperature=st.sampled_from([0.1, 0.7, 1.0, 2.5]),
    top_k=st.none() | st.integers(1, 14),
    top_p=st.none() | st.sampled_from([0.05, 0.3, 0.8, 0.95, 1.0]),
    min_p=st.none() | st.sampled_from([0.0, 0.02, 0.1, 0.5, 1.0]),
    repetition_penalty=st.sampled_from([0.5, 1.0, 1.2, 3.0]),
    seed=st.integers(0, 2**63 - 1),
)


def penalised(logits: list[float], penalty: float, ids: list[int]) -> list[float]:
    """CTRL's penalty, token by token."""
    return [
        score if token not in ids else score / penalty if score > 0 else score * penalty
        for token, score in enumerate(logits)
    ]


def reference(logits: list[float], sampling: Sampling, ids: list[int]) -> list[float]:
    """Penalty, temperature, top-k, top-p, min-p with loops over Python numbers, as the papers describe them."""
    logits = penalised(logits, sampling.repetition_penalty, ids)
    weights = [math.exp((score - max(logits)) / sampling.temperature) for score in logits]
    ranked = sorted(weights, reverse=True)
    if sampling.top_k is not None:
        least = ranked[min(sampling.top_k, len(ranked)) - 1]
        weights = [weight if weight >= least else 0.0 for weight in weights]
    if sampling.top_p is not None and sampling.top_p < 1:
        ranked, mass, least = sorted(weights, reverse=True), 0.0, 0.0
        for weight in ranked:
            if mass / sum(weights) >= sampling.top_p:
                break
            mass, least = mass + weight, weight
        weights = [weight if weight >= least else 0.0 for weight in weights]
    if sampling.min_p is not None:
        weights = [weight if weight / max(weights) >= sampling.min_p else 0.0 for weight in weights]
    return [weight / sum(weights) for weight in weights]


def text_in(ids: list[int], vocabulary: list[float]) -> list[int]:
    """The ids, as far as the vocabulary has them."""
    return [token for token in ids if token < len(vocabulary)]


@settings(max_examples=500, deadline=None)
@given(scores, samplings, seen)
def test_probabilities_equal_the_slow_reference(logits: list[float], sampling: Sampling, ids: list[int]) -> None:
    ids = text_in(ids, logits)
    fast = probabilities(np.array(logits, dtype=np.float32), sampling, ids)
    np.testing.assert_allclose(fast, reference(logits, sampling, ids), atol=1e-12)


@settings(max_examples=300, deadline=None)
@given(scores, samplings, seen)
def test_temperature_zero_takes_the_likeliest_after_the_penalty(
    logits: list[float], sampling: Sampling, ids: list[int]
) -> None:
    ids = text_in(ids, logits)
    greedy = Sampling(temperature=0, repetition_penalty=sampling.repetition_penalty)
    after = penalised(logits, sampling.repetition_penalty, ids)
    assert choose(np.array(logits, dtype=np.float32), greedy, 0, ids) == after.index(max(after))


@settings(max_examples=100, deadline=None)
@given(samplings, st.integers(0, 2**32 - 1))
def test_probabilities_equal_those_of_transformers(sampling: Sampling, seed: int) -> None:
    generator = np.random.default_rng(seed)
    logits, ids = 3 * generator.normal(size=300).astype(np.float32), generator.integers(300, size=40).tolist()
    steps = LogitsProcessorList([
        RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty), TemperatureLogitsWarper(sampling.temperature)
    ])  # fmt: skip
    if sampling.top_k is not None:
        steps.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p is not None and sampling.top_p < 1:
        steps.append(TopPLogitsWarper(sampling.top_p))
    if sampling.min_p is not None:
        steps.append(MinPLogitsWarper(sampling.min_p))
    theirs = steps(torch.tensor([ids]), torch.tensor(logits, dtype=torch.float64)[None]).softmax(1)[0].numpy()
    np.testing.assert_allclose(probabilities(logits, sampling, ids), theirs, atol=1e-9)


@settings(max_examples=300, deadline=None)
@given(scores, samplings, st.integers(0, 1000), seen)
def test_a_choice_is_where_the_draw_falls_among_the_probabilities(
    logits: list[float], sampling: Sampling, sequence: int, ids: list[int]
) -> None:
    array, ids = np.array(logits, dtype=np.float32), text_in(ids, logits)
    token = choose(array, sampling, sequence, ids)
    below = probabilities(array, sampling, ids)[:token].sum()
    piece = probabilities(array, sampling, ids)[token]
    assert piece > 0
    assert below - 1e-12 <= uniform(sampling.seed, sequence, len(ids)) <= below + piece + 1e-12


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=1.0),
        Sampling(temperature=0.5, top_k=20),
        Sampling(temperature=1.3, top_p=0.7),
        Sampling(temperature=1.3, min_p=0.1, repetition_penalty=1.5),
    ],
    ids=["temperature", "top_k", "top_p", "min_p"],
)
def test_frequencies_follow_the_probabilities(sampling: Sampling) -> None:
    logits = np.random.default_rng(5).normal(size=40).astype(np.float32)
    n = 4000
    counts = np.bincount([choose(logits, sampling, 0, [7] * (position + 1)) for position in range(n)], minlength=40)
    expected = probabilities(logits, sampling, [7])
    assert not counts[expected == 0].any()
    kept = expected > 0
    chi_squared = ((counts[kept] - n * expected[kept]) ** 2 / (n * expected[kept])).sum()
    freedom = kept.sum() - 1
    assert chi_squared < freedom + 4 * np.sqrt(2 * freedom)  # four standard deviations


def test_draws_are_uniform_and_differ_by_seed_sequence_and_position() -> None:
    draws = [uniform(*key) for key in itertools.product(range(10), repeat=3)]
    assert len(set(draws)) == len(draws)
    assert 0 <= min(draws) < 0.01
    assert 0.99 < max(draws) < 1
    assert abs(np.mean(draws) - 0.5) < 0.03


def test_draws_are_the_same_on_every_platform_and_version() -> None:
    assert uniform(0, 0, 0) == 0.011546754286331562
    assert uniform(1337, 2, 51) == 0.49785946333646824
    assert uniform(2**63 - 1, 0, 2**40) == 0.37638615923026186


def test_temperature_zero_takes_the_likeliest_and_the_lowest_id_of_equals() -> None:
    greedy = Sampling(temperature=0)
    logits = np.array([0.0, 3.0, 1.0, 3.0], dtype=np.float32)
    assert {choose(logits, greedy, sequence, [2]) for sequence in range(5)} == {1}
    assert probabilities(logits, greedy, []).tolist() == [0, 1, 0, 0]


def test_a_tiny_temperature_is_greedy_and_does_not_overflow() -> None:
    logits = np.array([-1e30, 2.0, 1.0, -np.inf], dtype=np.float32)
    assert probabilities(logits, Sampling(temperature=1e-300), []).tolist() == [0, 1, 0, 0]


def test_a_token_scored_minus_infinity_is_never_drawn() -> None:
    logits = np.array([-np.inf, 0.0, -np.inf, 0.0], dtype=np.float32)
    assert {choose(logits, Sampling(repetition_penalty=2), 0, [0] * position) for position in range(100)} == {1, 3}


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scores_that_are_no_numbers_are_refused(value: float) -> None:
    with pytest.raises(InputError, match="weights are damaged"):
        choose(np.array([0.0, value]), Sampling(), 0, [])
    with pytest.raises(InputError, match="weights are damaged"):
        choose(np.array([0.0, value]), Sampling(temperature=0, repetition_penalty=2), 0, [1])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("temperature", value) for value in (-0.1, float("nan"), float("inf"))],
        *[("top_k", value) for value in (0, -3)],
        *[("top_p", value) for value in (0.0, 1.01, float("nan"))],
        *[("min_p", value) for value in (-0.1, 1.01, float("nan"))],
        *[("repetition_penalty", value) for value in (0, -1, float("inf"), float("nan"))],
        *[("seed", value) for value in (-1, 2**63)],
    ],
)
def test_a_wrong_setting_is_named_in_one_line(name: str, value: float) -> None:
    with pytest.raises(InputError, match=f"^{name} is .*but must be") as caught:
        Sampling(**{name: value})  # pyrefly: ignore
    assert "\n" not in str(caught.value)


@pytest.mark.thorough
@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_the_native_sampler_draws_what_numpy_draws(data):
    """Scores of a few decimals have ties; the shares of top_p are such that no sum of weights meets them by chance."""
    size = data.draw(st.sampled_from([1, 2, 12, 300, 3000]))
    spread = data.draw(st.sampled_from([0.1, 1.0, 8.0]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    logits = np.round(rng.normal(size=size) * spread, data.draw(st.integers(0, 6))).astype(np.float32)
    ids = rng.integers(size, size=data.draw(st.integers(0, 30))).tolist()
    sampling = Sampling(
        temperature=data.draw(st.sampled_from([0.0, 0.01, 0.8, 1.0, 3.0])),
        top_k=data.draw(st.none() | st.integers(1, 2 * size)),
        top_p=data.draw(st.none() | st.floats(0.05, 0.999)),
        min_p=data.draw(st.none() | st.floats(0.001, 1)),
        repetition_penalty=data.draw(st.sampled_from([1.0, 0.7, 1.3])),
        seed=data.draw(st.integers(0, 2**63 - 1)),
    )
    sequence = data.draw(st.integers(0, 2**40))
    assert choose(logits, sampling, sequence, ids) == choose_plain(logits, sampling, sequence, ids)


@pytest.mark.parametrize("sampling", [Sampling(temperature=0), Sampling(), Sampling(repetition_penalty=1.1)])
def test_scores_that_are_no_numbers_are_refused_by_both_samplers(sampling):
    for wrong in (math.nan, math.inf):
        logits = np.array([0.0] * 100 + [wrong], np.float32)
        for chooser in (choose, choose_plain):
            with pytest.raises(InputError, match="highest score"):
                chooser(logits, sampling, 0, [1])
