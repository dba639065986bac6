"""The PyTorch runner: whatever lies beside a text in a pass, its scores are those of the plain forward."""

import copy
from collections.abc import Callable, Hashable, Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from test_generate import SHAPES, first_difference_is_a_tie, small_model
from torch import Tensor, nn

from glassgpt.generation.engine import Engine
from glassgpt.generation.generate import generate
from glassgpt.generation.sampling import Sampling, choose
from glassgpt.generation.sequence import Request
from glassgpt.generation.slots import SlotCache
from glassgpt.generation.torch_runner import LONG, TorchRunner, weights_dtype
from glassgpt.generation.torch_sampling import Draw
from glassgpt.model import GPTModel
from glassgpt.native.spans import Span
from glassgpt.settings import InputError

N_SLOTS = 7
CONTEXT = 70
GREEDY = Sampling(temperature=0)
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


class Recording:
    """CUDA graphs as they look from outside: the first call of a key is repeated, whatever later calls bring along."""

    def __init__(self) -> None:
        self.recorded: dict[Hashable, tuple[Callable[[Tensor], Tensor], Tensor, Tensor]] = {}

    def __call__(self, key: Hashable, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        if key not in self.recorded:
            self.recorded[key] = function, x.clone(), function(x)
        first, static_x, result = self.recorded[key]
        return result.copy_(first(static_x.copy_(x)))


@pytest.fixture(scope="module", params=SHAPES)
def model(request: pytest.FixtureRequest) -> GPTModel:
    model = small_model(context_length=CONTEXT, **SHAPES[request.param])
    with torch.no_grad():
        for weight in model.parameters():
            weight /= 2  # as large as they are there, they amplify the rounding of fp32 beyond 1e-5
    return model


def plain_scores(model: GPTModel, ids: list[int], n_logits: int) -> NDArray[np.float32]:
    with torch.inference_mode():
        return model(torch.tensor([ids]))[0, len(ids) - n_logits :].numpy()


def assert_scores(model: GPTModel, found: NDArray[np.float32], ids: list[int]) -> None:
    """`found` are the scores of the last of `ids`."""
    expected = plain_scores(model, ids, len(found))
    assert np.abs(found - expected).max(initial=0) <= 1e-5 * max(1, np.abs(expected).max(initial=0))


def write_together(runner: TorchRunner, prompts: list[list[int]], samplings: list[Sampling], n: int) -> list[list[int]]:
    """Continue all prompts at once by `n` tokens, each in a slot of its own."""
    texts = [list(prompt) for prompt in prompts]
    spans = [Span(slot, 0, text) for slot, text in enumerate(texts)]
    for _ in range(n):
        scores = runner.forward(spans)
        for sequence, (row, text, sampling) in enumerate(zip(scores, texts, samplings, strict=True)):
            text.append(choose(row, sampling, sequence, text))
        spans = [Span(slot, len(text) - 1, text[-1:]) for slot, text in enumerate(texts)]
    return [text[len(prompt) :] for text, prompt in zip(texts, prompts, strict=True)]


@pytest.mark.parametrize("replay", [None, Recording], ids=["plain", "recorded"])
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_any_passes_copies_and_steps_back_give_the_scores_of_the_plain_forward(
    model: GPTModel, replay: type[Recording] | None, data: st.DataObject
) -> None:
    runner = TorchRunner(model, n_slots=N_SLOTS, replay=replay and replay())
    texts: list[list[int]] = [[] for _ in range(N_SLOTS)]
    for _ in range(data.draw(st.integers(1, 8))):
        if data.draw(st.integers(0, 4)) == 0:
            source, target = (data.draw(st.integers(0, N_SLOTS - 1)) for _ in range(2))
            length = data.draw(st.integers(0, len(texts[source])))
            runner.copy(source, target, length)
            texts[target] = texts[source][:length]
            continue
        spans = []
        for slot in data.draw(st.lists(st.integers(0, N_SLOTS - 1), min_size=1, max_size=N_SLOTS, unique=True)):
            held = len(texts[slot])
            start = data.draw(st.sampled_from([held, held, held // 2])) if held < CONTEXT else held - 1
            n = min(CONTEXT - start, data.draw(st.sampled_from([1, 1, 1, 2, 5, LONG, LONG + 2])))
            ids = data.draw(st.lists(st.integers(0, 96), min_size=n, max_size=n))
            spans.append(Span(slot, start, ids, data.draw(st.integers(0, n))))
            texts[slot] = texts[slot][:start] + ids
        scores = runner.forward(spans)
        assert scores.shape == (sum(span.n_logits for span in spans), 97)
        ends = np.cumsum([span.n_logits for span in spans])
        for span, rows in zip(spans, np.split(scores, ends[:-1]), strict=True):
            assert_scores(model, rows, texts[span.slot])


@pytest.mark.parametrize("replay", [None, Recording], ids=["plain", "recorded"])
def test_a_text_is_the_same_alone_and_among_others(model: GPTModel, replay: type[Recording] | None) -> None:
    prompts = [[1], [5, 6, 7], [9] * 40, [1], [3, 4, 5]]
    drawn = Sampling(temperature=1.0, top_k=20, top_p=0.9, repetition_penalty=1.2, seed=11)
    samplings = [GREEDY, drawn, GREEDY, drawn, GREEDY]
    together = write_together(TorchRunner(model, n_slots=8, replay=replay and replay()), prompts, samplings, 25)
    for sequence, (prompt, sampling, written) in enumerate(zip(prompts, samplings, together, strict=True)):
        alone = list(generate(model, prompt, max_new_tokens=25, sampling=sampling, sequence=sequence))
        assert len(set(alone)) > 1
        if sampling is GREEDY:
            assert first_difference_is_a_tie(model, prompt, written, alone)
        else:
            assert written == alone


@pytest.mark.parametrize("replay", [None, Recording], ids=["plain", "recorded"])
def test_the_engine_writes_on_it_what_generate_writes_also_beyond_the_context(
    model: GPTModel, replay: type[Recording] | None
) -> None:
    runner = TorchRunner(model, n_slots=3, replay=replay and replay())
    engine = Engine(runner, max_rows=40, least_shared=4, row_cost=0.0)
    begin = [7, 8, 9, 7, 8, 9, 7, 8, 9, 7, 8]
    prompts = [[*begin, 1], [*begin, 2], [3] * 50, [4], begin]
    sequences = engine.run([Request(ids=ids, max_new_tokens=30, sampling=GREEDY) for ids in prompts])
    assert len(sequences) == 5
    for sequence in sequences:
        prompt = sequence.ids[: sequence.n_prompt]
        alone = list(generate(model, prompt, max_new_tokens=30, sampling=GREEDY))
        assert first_difference_is_a_tie(model, prompt, sequence.written, alone)


def test_the_newest_tokens_of_all_texts_are_one_pass_and_so_are_drafts_of_one_length(model: GPTModel) -> None:
    runner = TorchRunner(model, n_slots=N_SLOTS)
    runner.forward([Span(slot, 0, list(range(10 * slot + 1))) for slot in range(4)])
    passes = []
    hook = model.token_embedding.register_forward_hook(lambda _, __, output: passes.append(tuple(output.shape[:2])))
    runner.forward([Span(slot, 10 * slot + 1, [slot]) for slot in (2, 0, 3, 1)])
    runner.forward([Span(1, 12, [5, 6, 7], 3), Span(0, 2, [1]), Span(3, 32, [5, 6, 7], 3), Span(2, 22, [4])])
    hook.remove()
    assert passes == [(4, 1), (3, 3), (3, 1)]


def test_a_full_slot_is_not_touched_by_the_passes_of_others(model: GPTModel) -> None:
    runner = TorchRunner(model, n_slots=3, replay=Recording())
    full = [n % 97 for n in range(CONTEXT)]
    runner.forward([Span(1, 0, full)])
    runner.forward([Span(0, 0, [1]), Span(2, 0, [2])])
    runner.forward([Span(0, 1, [3, 4]), Span(2, 1, [5, 6])])
    assert_scores(model, runner.forward([Span(1, CONTEXT - 1, full[-1:])]), full)


def test_recorded_passes_are_few(model: GPTModel) -> None:
    recording = Recording()
    write_together(TorchRunner(model, n_slots=6, replay=recording), [[1], [2], [3]], [GREEDY] * 3, 30)
    assert set(recording.recorded) == {(4, 128, True)}  # all the room that there is for a context of 70, aligned
    runner = TorchRunner(small_model(context_length=1200), n_slots=6, replay=recording)
    runner.forward([Span(4, 0, [1] * 600)])
    for spans in ([Span(4, 600, [1])], [Span(5, 0, [1])], [Span(0, 0, [1])], [Span(n, 0, [1]) for n in (1, 5, 3)]):
        runner.forward(spans)
    assert list(recording.recorded)[1:] == [(1, 1024, False), (1, 256, False), (1, 256, True), (6, 256, True)]


def test_the_caller_may_keep_the_scores(model: GPTModel) -> None:
    runner = TorchRunner(model, n_slots=2, replay=Recording())
    first = runner.forward([Span(0, 0, [1]), Span(1, 0, [2])])
    before = first.copy()
    runner.forward([Span(0, 1, [7]), Span(1, 1, [8])])
    assert np.array_equal(first, before)
    assert first.dtype == np.float32


def test_the_next_tokens_are_what_choose_makes_of_the_scores(model: GPTModel) -> None:
    spans = [Span(0, 0, [1, 2, 3], 2), Span(1, 0, [4])]
    drawn = Sampling(temperature=1.5, seed=3)
    draws = [Draw(GREEDY, 0, [1, 2]), Draw(drawn, 0, [1, 2, 3]), Draw(drawn, 7, [4])]
    scores = TorchRunner(model, n_slots=2).forward(spans)
    expected = [choose(row, draw.sampling, draw.sequence, draw.ids) for row, draw in zip(scores, draws, strict=True)]
    assert TorchRunner(model, n_slots=2).next_tokens(spans, draws) == expected


def test_a_model_in_bf16_keeps_its_cache_in_bf16_and_scores_to_two_digits() -> None:
    model = small_model(context_length=CONTEXT)
    runner = TorchRunner(copy.deepcopy(model).bfloat16(), n_slots=3)
    runner.forward([Span(slot, 0, [1, 2, 3][: slot + 1]) for slot in range(3)])
    scores = runner.forward([Span(slot, slot + 1, [5]) for slot in range(3)])
    for slot, row in enumerate(scores):
        (expected,) = plain_scores(model, [*[1, 2, 3][: slot + 1], 5], 1)
        assert np.linalg.norm(row - expected) < 0.05 * np.linalg.norm(expected)
    assert weights_dtype(torch.device("cpu")) == torch.float32


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ([Span(0, 2, [1]), Span(0, 3, [1])], "a slot comes twice in a pass"),
        ([Span(2, 0, [1])], "slot 2 of a cache with 2"),
        ([Span(-1, 0, [1])], "slot -1 of a cache with 2"),
        ([Span(0, 4, [1])], "slot 0 holds 3 positions, not 4"),
        ([Span(0, -1, [1])], "slot 0 holds 3 positions, not -1"),
        ([Span(0, 3, [])], "0 tokens at 3 of a context of 70"),
        ([Span(0, 3, [1] * 68)], "68 tokens at 3 of a context of 70"),
        ([Span(0, 3, [1], 2)], "scores of 2 tokens of 1"),
        ([Span(0, 3, [97])], "a token is not in the vocabulary of 97"),
        ([Span(0, 3, [-1])], "a token is not in the vocabulary of 97"),
    ],
)
def test_a_pass_that_cannot_be_is_refused_and_nothing_is_lost(spans: list[Span], message: str) -> None:
    model = small_model(context_length=CONTEXT)
    runner = TorchRunner(model, n_slots=2)
    runner.forward([Span(0, 0, [4, 5, 6])])
    with pytest.raises(ValueError, match=f"^{message}$"):
        runner.forward(spans)
    assert_scores(model, runner.forward([Span(0, 3, [7])]), [4, 5, 6, 7])


def test_no_more_is_copied_than_there_is() -> None:
    runner = TorchRunner(small_model(), n_slots=2)
    runner.forward([Span(0, 0, [4, 5, 6])])
    with pytest.raises(ValueError, match=r"^slot 0 holds 3 positions, not 4$"):
        runner.copy(0, 1, 4)


class OwnAttention(nn.Module):
    def forward(self, x: Tensor, cache: object = None) -> Tensor:
        return x


def test_a_model_of_ones_own_or_in_training_is_refused_in_one_line() -> None:
    own = small_model()
    own.blocks[0].attention = OwnAttention()
    for model, n_slots, message in [
        (own, 1, "^a model with parts of its own writes one text at a time: use generation.generate$"),
        (small_model().train(), 1, r"^the model is in training mode.*call model\.eval\(\) first$"),
        (small_model(), 0, "^n_slots is 0, but must be a whole number from 1 to 4,096"),
        (small_model(), 4097, "^n_slots is 4097, but must be"),
    ]:
        with pytest.raises(InputError, match=message):
            TorchRunner(model, n_slots=n_slots)


def test_a_cache_that_does_not_fit_the_device_is_refused_in_one_line() -> None:
    with pytest.raises(InputError, match=r"^a cache for 1099511627776 texts takes .* GB, which cpu does not have: use"):
        SlotCache(small_model().config, 2**40, torch.device("cpu"), torch.float32)


def test_between_two_passes_the_callers_gradient_mode_holds(model: GPTModel) -> None:
    runner = TorchRunner(model, n_slots=2)
    runner.forward([Span(0, 0, [1]), Span(1, 0, [1])])
    runner.copy(0, 1, 1)
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


@needs_cuda
def test_recorded_on_cuda_a_text_is_the_same_alone_and_among_others(model: GPTModel) -> None:
    prompts, drawn = [[1], [5, 6, 7], [9] * 40], Sampling(temperature=1.0, top_p=0.9, seed=11)
    samplings = [GREEDY, drawn, GREEDY]
    runner = TorchRunner(copy.deepcopy(model).cuda(), n_slots=4)
    together = write_together(runner, prompts, samplings, 25)
    for sequence, (prompt, sampling, written) in enumerate(zip(prompts, samplings, together, strict=True)):
        alone = list(generate(model, prompt, max_new_tokens=25, sampling=sampling, sequence=sequence))
        assert written == alone if sampling is drawn else first_difference_is_a_tie(model, prompt, written, alone)
    draws = [Draw(sampling, n, [1]) for n, sampling in enumerate(samplings)]
    spans = [Span(slot, 0, [1]) for slot in range(3)]
    scores = runner.forward(spans)
    expected = [choose(row, draw.sampling, draw.sequence, draw.ids) for row, draw in zip(scores, draws, strict=True)]
    assert runner.next_tokens(spans, draws) == expected
