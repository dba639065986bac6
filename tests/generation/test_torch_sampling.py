"""The sampler on the device chooses what `choose` chooses."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glassgpt.generation.sampling import Sampling, choose
from glassgpt.generation.torch_sampling import Draw, choose_together
from glassgpt.settings import InputError

SAMPLINGS = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 1e-300, 0.5, 1.0, 3.0]),
    top_k=st.sampled_from([None, 1, 3, 40, 1000]),
    top_p=st.sampled_from([None, 1e-9, 0.3, 0.95, 1.0]),
    min_p=st.sampled_from([None, 0.0, 0.1, 1.0]),
    repetition_penalty=st.sampled_from([1.0, 1.3, 0.5]),
    seed=st.integers(0, 2**63 - 1),
)
DRAWS = st.builds(Draw, SAMPLINGS, st.integers(0, 2**63 - 1), st.lists(st.integers(0, 96), max_size=30))


@settings(max_examples=300, deadline=None)
@given(st.lists(DRAWS, min_size=1, max_size=6), st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 97]))
def test_rows_of_any_samplings_get_the_tokens_that_choose_gives(draws: list[Draw], seed: int, n_values: int) -> None:
    """With few different values nearly all scores are equal to others."""
    random = np.random.default_rng(seed)
    values = (4 * random.standard_normal(n_values)).astype(np.float32)
    logits = values[random.integers(n_values, size=(len(draws), 97))]
    expected = [choose(row, draw.sampling, draw.sequence, draw.ids) for row, draw in zip(logits, draws, strict=True)]
    assert choose_together(torch.from_numpy(logits), draws) == expected


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_scores_stay_as_they_are(dtype: torch.dtype) -> None:
    logits = torch.randn(2, 50, generator=torch.Generator().manual_seed(1)).to(dtype)
    before = logits.clone()
    draws = [Draw(Sampling(repetition_penalty=2.0, temperature=t), 0, [1, 2, 3]) for t in (0.0, 1.0)]
    rows = logits.double().numpy()
    assert choose_together(logits, draws) == [choose(r, d.sampling, 0, d.ids) for r, d in zip(rows, draws, strict=True)]
    assert torch.equal(logits, before)


@pytest.mark.parametrize("damaged", [float("nan"), float("inf")])
def test_scores_that_are_no_numbers_are_refused_in_one_line(damaged: float) -> None:
    logits = torch.zeros(2, 5)
    logits[1, 3] = damaged
    draws = [Draw(Sampling(), 0, [1])] * 2
    with pytest.raises(InputError, match=f"^the model's highest score is {damaged}: its weights are damaged"):
        choose_together(logits, draws)
