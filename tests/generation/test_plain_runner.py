"""The engine on a PyTorch model: every token is the plain generator's, or ties with it within rounding."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_generate import SHAPES, small_model

from glassgpt.generation.engine import Engine
from glassgpt.generation.generate import next_logits
from glassgpt.generation.plain_runner import TorchSlots
from glassgpt.generation.sampling import Sampling, choose, probabilities, uniform
from glassgpt.generation.sequence import Finish, Request, TokenSequence, visible_start
from glassgpt.generation.single import generate_on
from glassgpt.generation.speculation import DraftCost
from glassgpt.model import GPTModel
from glassgpt.native.spans import Span
from glassgpt.settings import InputError

CLOSE = 1e-4
GREEDY = Sampling(temperature=0)
SAMPLED = Sampling(temperature=1.0, seed=4)
MODELS = {shape: small_model(**SHAPES[shape]) for shape in ("gpt2", "modern grouped")}


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """On two threads products as small as these mostly wait for each other."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


def n_ties(model: GPTModel, request: Request, number: int, written: list[int], finished: Finish) -> int:
    """At how many places the text differs from what `generate_plain` would have chosen there.

    Asserts that at each of these the two tokens tie: that scores which differ by no more than CLOSE from the plain
    ones choose the token that was written. And that the text ends where it must, unless it was cancelled.
    """
    ids, n = list(request.ids), 0
    for token in written:
        logits = next_logits(model, ids[visible_start(len(ids), model.config.context_length) :])
        assert token != request.stop
        if token != choose(logits, request.sampling, number, ids):
            n += 1
            assert ties(logits, request.sampling, number, ids, token), (len(ids), token)
        ids.append(token)
    assert (finished == "length") == (len(written) == request.max_new_tokens) or finished == "cancelled"
    if finished == "stop":
        logits = next_logits(model, ids[visible_start(len(ids), model.config.context_length) :])
        assert request.stop is not None
        if choose(logits, request.sampling, number, ids) != request.stop:
            n += 1
            assert ties(logits, request.sampling, number, ids, request.stop)
    return n


def ties(logits: np.ndarray, sampling: Sampling, number: int, ids: list[int], token: int) -> bool:
    if sampling.temperature == 0:
        return bool(logits.max() - logits[token] < CLOSE)
    drawn = probabilities(logits, sampling, ids)
    before = drawn[:token].sum()
    place = uniform(sampling.seed, number, len(ids))
    return bool(before - CLOSE < place < before + drawn[token] + CLOSE)


ends = st.lists(st.integers(0, 96), max_size=4)
prompts = st.builds(lambda n, end: ([5, 9, 2] * 5)[:n] + end, st.integers(0, 12), ends)
requests = st.builds(
    Request,
    ids=prompts.filter(len),
    max_new_tokens=st.integers(1, 30),
    sampling=st.sampled_from([GREEDY, SAMPLED]),
    stop=st.none() | st.integers(0, 96),
    n=st.integers(1, 3),
    speculate=st.booleans(),
)


@pytest.mark.thorough
@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(sorted(MODELS)),
    st.lists(st.tuples(requests, st.integers(0, 6), st.none() | st.integers(0, 20)), min_size=1, max_size=6),
    st.integers(1, 3),
    st.integers(3, 20),
    st.integers(1, 4),
)
def test_each_text_is_the_plain_generators_whatever_arrives_and_is_cancelled(
    shape, arrivals, n_slots, max_rows, least_shared
) -> None:
    """An arrival is a request, the steps before it, and the steps until its first text is cancelled."""
    model = MODELS[shape]
    engine = Engine(TorchSlots(model, n_slots), max_rows=max_rows, least_shared=least_shared, row_cost=0.05)
    sequences: list[TokenSequence] = []
    to_cancel: list[tuple[int, TokenSequence]] = []
    now = 0
    for request, pause, patience in arrivals:
        for _ in range(pause):
            engine.step()
            now += 1
        new = engine.submit(request)
        sequences += new
        if patience is not None:
            to_cancel.append((now + patience, new[0]))
    while not engine.idle:
        for at, sequence in to_cancel:
            if at <= now:
                engine.cancel(sequence)
        engine.step()
        now += 1
    different = 0
    for sequence in sequences:
        assert sequence.finished in ("length", "stop", "cancelled")
        different += n_ties(model, sequence.request, sequence.number, sequence.written, sequence.finished)
    assert different <= 1  # ties are rare: what differs often is wrong, however close


@pytest.mark.parametrize("speculate", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_text_alone_is_the_plain_generators(shape: str, speculate: bool) -> None:
    model = small_model(**SHAPES[shape])
    for sampling in (GREEDY, SAMPLED):
        request = Request(ids=[1, 2, 3], max_new_tokens=60, sampling=sampling)
        asked = {"max_new_tokens": 60, "sampling": sampling, "speculate": speculate}
        steps = generate_on(TorchSlots(model, 1), [1, 2, 3], cost=DraftCost(0.0), **asked)
        written = [token for token, _ in steps]
        assert len(written) == 60
        assert n_ties(model, request, 0, written, "length") <= 1


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_the_comparison_refuses_a_text_with_one_other_token_and_one_that_ends_early(sampling: Sampling) -> None:
    model = MODELS["gpt2"]
    request = Request(ids=[1, 2, 3], max_new_tokens=20, sampling=sampling)
    (sequence,) = Engine(TorchSlots(model, 1)).run([request])
    for place in range(20):
        changed = sequence.written
        changed[place] = (changed[place] + 1) % 97
        with pytest.raises(AssertionError):
            n_ties(model, request, 0, changed, "length")
    with pytest.raises(AssertionError):
        n_ties(model, request, 0, sequence.written[:-1], "length")
    stopping = replace(request, stop=sequence.written[-1])
    with pytest.raises(AssertionError):
        n_ties(model, stopping, 0, sequence.written[:-2], "stop")


def test_slots_keep_their_texts_apart_take_back_and_copy() -> None:
    model = MODELS["modern grouped"]
    runner = TorchSlots(model, 3)

    def expected(ids: list[int]) -> np.ndarray:
        return next_logits(model, ids)

    scores = runner.forward([Span(0, 0, [1, 2, 3, 4], 2), Span(1, 0, [7, 8], 0), Span(2, 0, [9], 1)])
    np.testing.assert_allclose(scores, [expected([1, 2, 3]), expected([1, 2, 3, 4]), expected([9])], atol=CLOSE)
    runner.copy(0, 2, 3)
    scores = runner.forward([Span(2, 3, [5]), Span(0, 2, [6]), Span(1, 2, [9])])
    np.testing.assert_allclose(scores, [expected([1, 2, 3, 5]), expected([1, 2, 6]), expected([7, 8, 9])], atol=CLOSE)


def test_models_that_cannot_run_in_slots_are_refused() -> None:
    class NoCache(GPTModel):
        def hidden(self, ids):
            return super().hidden(ids)

    with pytest.raises(InputError, match=r"call model\.eval\(\) first"):
        TorchSlots(small_model().train(), 1)
    with pytest.raises(InputError, match="hidden takes no cache"):
        TorchSlots(NoCache(small_model().config).eval(), 1)


@pytest.mark.parametrize("n_slots", [0, -1, 4097, 10**9, 1.5, "2"])
def test_a_number_of_slots_that_no_runner_should_have_is_refused(n_slots: Any) -> None:
    with pytest.raises(InputError, match=r"^n_slots is .*, but must be a whole number from 1 to 4,096"):
        TorchSlots(small_model(), n_slots)
