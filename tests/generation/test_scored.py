"""What is told of a token's probability, against plain Python."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from glassgpt.generation.sampling import Sampling, probabilities
from glassgpt.generation.scored import score

scores = st.lists(st.integers(-40, 40).map(lambda n: n / 4), min_size=1, max_size=12)


@settings(max_examples=300, deadline=None)
@given(scores, st.data())
def test_probability_rank_and_alternatives_equal_a_slow_reference(logits: list[float], data: st.DataObject) -> None:
    token = data.draw(st.integers(0, len(logits) - 1))
    found = score(np.array(logits, dtype=np.float32), token, str)
    weights = [math.exp(value) for value in logits]
    assert found.id == token
    assert found.token == str(token)
    assert math.isclose(found.probability, weights[token] / sum(weights), rel_tol=1e-9)
    assert found.rank == 1 + sum(value > logits[token] for value in logits)
    others = sorted((value for other, value in enumerate(weights) if other != token), reverse=True)[:5]
    np.testing.assert_allclose([other.probability for other in found.alternatives], np.array(others) / sum(weights))
    assert all(weights[o.id] / sum(weights) - o.probability < 1e-9 and o.id != token for o in found.alternatives)
    assert len({other.id for other in found.alternatives}) == len(others)


def test_the_probability_is_the_one_that_temperature_1_without_filters_draws_with() -> None:
    logits = np.random.default_rng(2).normal(size=50).astype(np.float32)
    drawn = probabilities(logits, Sampling(temperature=1), [])
    np.testing.assert_allclose([score(logits, token, str).probability for token in range(50)], drawn, rtol=1e-12)
