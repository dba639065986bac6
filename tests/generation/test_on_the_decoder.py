"""On the native decoder a text is the same byte for byte: alone, among others, in pieces, shared, drafted or not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_generate import SHAPES, first_difference_is_a_tie, small_model

from glassgpt.generation.engine import Engine
from glassgpt.generation.generate import generate_plain
from glassgpt.generation.sampling import Sampling
from glassgpt.generation.sequence import Request
from glassgpt.generation.single import generate_on
from glassgpt.generation.speculation import DraftCost
from glassgpt.model import GPTModel
from glassgpt.native.decoder import Decoder, available
from glassgpt.native.packing import Format, pack

pytestmark = pytest.mark.skipif(not available(), reason="the native code was not built")
GREEDY = Sampling(temperature=0)
FORMATS: tuple[Format, ...] = ("fp32", "bf16", "int8", "int4")
MODELS = {shape: small_model(**SHAPES[shape]) for shape in ("gpt2", "modern grouped")}


def decoder(model: GPTModel, form: Format = "fp32", n_slots: int = 1) -> Decoder:
    parameters = {name: weight.detach().numpy() for name, weight in model.named_parameters()}
    matrices = {name for name, weight in parameters.items() if weight.ndim == 2} - {"position_embedding.weight"}
    return Decoder(
        model.config,
        {name: pack(parameters[name], form) for name in matrices},
        {name: weight for name, weight in parameters.items() if name not in matrices},
        threads=1,
        n_slots=n_slots,
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_greedy_text_is_the_plain_generators(shape: str) -> None:
    model = small_model(**SHAPES[shape])
    written = [token for token, _ in generate_on(decoder(model), [1, 2, 3], max_new_tokens=45, sampling=GREEDY)]
    plain = list(generate_plain(model, [1, 2, 3], max_new_tokens=45, sampling=GREEDY))
    assert len(written) == 45
    assert first_difference_is_a_tie(model, [1, 2, 3], written, plain)


ends = st.lists(st.integers(0, 96), max_size=4)
prompts = st.builds(lambda n, end: ([5, 9, 2] * 5)[:n] + end, st.integers(0, 12), ends)
requests = st.builds(
    Request,
    ids=prompts.filter(len),
    max_new_tokens=st.integers(1, 40),
    sampling=st.sampled_from([GREEDY, Sampling(temperature=1.0, seed=4), Sampling(temperature=0.3, top_k=5)]),
    stop=st.none() | st.integers(0, 96),
    n=st.integers(1, 3),
    speculate=st.booleans(),
)


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(sorted(MODELS)),
    st.sampled_from(FORMATS),
    st.lists(st.tuples(requests, st.integers(0, 6)), min_size=1, max_size=6),
    st.integers(1, 4),
    st.integers(4, 20),
    st.integers(1, 4),
)
def test_text_and_scores_are_the_same_bytes_alone_and_among_others(
    shape, form, arrivals, n_slots, max_rows, least_shared
) -> None:
    """An arrival is a request and the steps before it."""
    model = MODELS[shape]
    engine = Engine(decoder(model, form, n_slots), max_rows=max_rows, least_shared=least_shared, row_cost=0.05)
    sequences, events = [], []
    for request, pause in arrivals:
        for _ in range(pause):
            events += engine.step()
        sequences += engine.submit(request)
    while not engine.idle:
        events += engine.step()
    alone = decoder(model, form)
    for sequence in sequences:
        request = sequence.request
        asked = {"max_new_tokens": request.max_new_tokens, "sampling": request.sampling, "stop": request.stop}
        scores = iter([row for event in events if event.sequence is sequence for row in event.logits])
        ids = []
        for token, expected in generate_on(alone, request.ids, sequence=sequence.number, speculate=False, **asked):
            np.testing.assert_array_equal(next(scores), expected)
            ids.append(token)
        assert sequence.written == ids
        assert next(scores, None) is None


@pytest.mark.parametrize("form", FORMATS)
def test_drafts_change_neither_text_nor_scores(form: Format) -> None:
    model = MODELS["modern grouped"]
    for sampling in (GREEDY, Sampling(temperature=0.5, seed=9)):
        asked = {"max_new_tokens": 80, "sampling": sampling}
        with_drafts, without = (
            [(token, row.tobytes()) for token, row in generate_on(decoder(model, form), [4, 5], **asked, **drafts)]
            for drafts in ({"cost": DraftCost(0.0)}, {"speculate": False})
        )
        assert with_drafts == without
