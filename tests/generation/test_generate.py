"""Generation: with and without a cache the same tokens, within the context and beyond it."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glassgpt.config import GPTConfig
from glassgpt.generation.cache import KeyValueCache, make_cache
from glassgpt.generation.generate import generate, generate_plain, next_logits, visible_start
from glassgpt.generation.sampling import Sampling
from glassgpt.model import GPTModel, initialise
from glassgpt.settings import InputError

GREEDY = Sampling(temperature=0)
SHAPES = {
    "gpt2": {},
    "gpt2 tied with bias": {"qkv_bias": True, "tie_embeddings": True},
    "modern": {"architecture": "modern"},
    "modern grouped": {"architecture": "modern", "n_kv_heads": 2, "tie_embeddings": True},
    "llama": {"architecture": "modern", "qk_norm": False, "head_dim": 6},
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """On two threads products as small as these mostly wait for each other, more so on a busy machine."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


def small_model(**changes: object) -> GPTModel:
    sizes = {"vocab_size": 97, "context_length": 16, "embedding_dim": 32, "n_heads": 4, "n_layers": 2}
    model = GPTModel(GPTConfig.from_dict(sizes | changes))
    initialise(model, torch.Generator().manual_seed(3))
    with torch.no_grad():
        for weight in model.parameters():
            weight *= 4  # initial weights are so small that every token scores nearly the same, or 0
            weight += 0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel()))
    return model.eval()


def first_difference_is_a_tie(model: GPTModel, prompt: list[int], ours: list[int], theirs: list[int]) -> bool:
    for n, (left, right) in enumerate(zip(ours, theirs)):
        if left != right:
            ids = prompt + ours[:n]
            logits = next_logits(model, ids[visible_start(len(ids), model.config.context_length) :])
            return bool(abs(logits[left] - logits[right]) < 1e-4)
    return len(ours) == len(theirs)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n_prompt", [1, 5, 16])
def test_cached_and_plain_agree_also_beyond_the_context(shape: str, n_prompt: int) -> None:
    model = small_model(**SHAPES[shape])
    prompt = list(range(n_prompt))
    cached = list(generate(model, prompt, max_new_tokens=45, sampling=GREEDY))
    plain = list(generate_plain(model, prompt, max_new_tokens=45, sampling=GREEDY))
    assert len(cached) == 45
    assert len(set(cached)) > 3
    assert first_difference_is_a_tie(model, prompt, cached, plain)


@pytest.mark.parametrize("shape", ["gpt2", "modern grouped"])
def test_cached_and_plain_draw_the_same_samples(shape: str) -> None:
    model = small_model(**SHAPES[shape])
    sampling = Sampling(temperature=1.0, top_k=20, top_p=0.9, min_p=0.01, repetition_penalty=1.2, seed=11)
    samples, plain = (
        [list(run(model, [1, 2], max_new_tokens=30, sampling=sampling, sequence=n)) for n in range(3)]
        for run in (generate, generate_plain)
    )
    assert samples == plain
    assert samples[0] != samples[1] != samples[2]


def test_the_repetition_penalty_counts_the_prompt_and_the_new_text_also_beyond_the_context() -> None:
    model = small_model()
    forbidding = Sampling(temperature=0, repetition_penalty=100)
    prompt = [3, 4, 5]
    new = list(generate(model, prompt, max_new_tokens=40, sampling=forbidding))
    for n, token in enumerate(new):
        ids = prompt + new[:n]
        scores = next_logits(model, ids[visible_start(len(ids), 16) :])
        scores[ids] = np.where(scores[ids] > 0, scores[ids] / 100, scores[ids] * 100)
        assert scores.max() - scores[token] < 1e-3


@pytest.mark.parametrize("context_length", [1, 2, 3])
def test_the_shortest_contexts_slide_too(context_length: int) -> None:
    model = small_model(context_length=context_length)
    cached = list(generate(model, [5], max_new_tokens=12, sampling=GREEDY))
    assert cached == list(generate_plain(model, [5], max_new_tokens=12, sampling=GREEDY))


@given(st.integers(1, 5000), st.integers(1, 700))
def test_the_window_holds_more_than_three_quarters_of_the_context_and_never_more_than_it(
    length: int, context_length: int
) -> None:
    seen = length - visible_start(length, context_length)
    assert seen == length if length <= context_length else context_length * 3 / 4 < seen <= context_length
    assert visible_start(length, context_length) <= visible_start(length + 1, context_length)


def test_beyond_the_context_most_tokens_cost_one_position() -> None:
    model = small_model(context_length=32)
    computed = []
    model.token_embedding.register_forward_hook(lambda _, inputs, output: computed.append(output.shape[1]))
    list(generate(model, [1, 2, 3], max_new_tokens=100, sampling=GREEDY))
    assert computed.count(1) == 100 - 1 - 9
    assert [n for n in computed if n > 1] == [3] + [25] * 9


@pytest.mark.parametrize("run", [generate, generate_plain])
def test_tokens_come_as_they_are_chosen(run) -> None:
    model = small_model()
    calls = []
    model.output_head.register_forward_hook(lambda *_: calls.append(1))
    tokens = run(model, [1, 2, 3], max_new_tokens=10, sampling=GREEDY)
    assert len(calls) == 0
    for n in range(1, 5):
        assert isinstance(next(tokens), int)
        assert len(calls) == n


@pytest.mark.parametrize("run", [generate, generate_plain])
def test_the_stop_token_ends_it_and_is_not_yielded(run) -> None:
    model = small_model()
    free = list(run(model, [1, 2, 3], max_new_tokens=20, sampling=GREEDY))
    stop = free[7]
    stopped = list(run(model, [1, 2, 3], max_new_tokens=20, sampling=GREEDY, stop=stop))
    assert stopped == free[: free.index(stop)]


def test_between_two_tokens_the_callers_gradient_mode_holds_and_its_prompt_is_unchanged() -> None:
    model, prompt = small_model(), [1, 2, 3]
    for _ in generate(model, prompt, max_new_tokens=3, sampling=GREEDY):
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
    assert prompt == [1, 2, 3]


@pytest.mark.parametrize("run", [generate, generate_plain])
@pytest.mark.parametrize(
    ("prompt", "n", "message"),
    [
        ([], 5, "the prompt has no tokens"),
        ([1] * 17, 5, "the prompt has 17 tokens, but .*context_length is 16: leave out the first 1"),
        ([1, 97], 5, "token 97 is not in the model's vocabulary of 97"),
        ([-1], 5, "token -1 is not in"),
        ([1], 0, "max_new_tokens is 0, but must be at least 1"),
        ([1], 5.5, "max_new_tokens is 5.5, but must be a whole number"),
        ([1], "5", "max_new_tokens is '5', but must be a whole number"),
    ],
)
def test_a_prompt_that_cannot_be_continued_is_refused_in_one_line(run, prompt, n, message) -> None:
    with pytest.raises(InputError, match="^" + message) as caught:
        run(small_model(), prompt, max_new_tokens=n, sampling=GREEDY)
    assert "\n" not in str(caught.value)


def test_a_model_in_training_mode_is_refused() -> None:
    with pytest.raises(InputError, match=r"call model\.eval\(\) first"):
        generate(small_model().train(), [1], max_new_tokens=1, sampling=GREEDY)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_cache_filled_in_pieces_gives_the_logits_of_one_pass(shape: str) -> None:
    model = small_model(**SHAPES[shape])
    ids = torch.randint(97, (3, 14), generator=torch.Generator().manual_seed(1))
    cache = make_cache(model.config.n_layers, 16)
    with torch.no_grad():
        whole = model(ids)
        pieces = torch.cat([model(piece, cache) for piece in ids.split([5, 1, 1, 4, 3], dim=1)], dim=1)
        exact = model.double()(ids)
    assert [layer.length for layer in cache] == [14] * model.config.n_layers
    rounding = (whole - exact).abs().max()  # of one pass; these weights are large, and some amplify it
    assert (whole - pieces).abs().max() <= 1e-5 * max(1, whole.abs().max()) + rounding


def test_a_cleared_cache_starts_again_and_a_full_one_says_so() -> None:
    cache = KeyValueCache(4)
    first, second = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 2, 5)
    cache.append(first, first)
    with pytest.raises(ValueError, match="6 positions do not fit a cache of 4"):
        cache.append(second, second)
    cache.clear()
    keys, values = cache.append(second, 2 * second)
    assert torch.equal(keys, second)
    assert torch.equal(values, 2 * second)


@pytest.mark.thorough
def test_the_chapters_model_writes_the_chapters_tokens() -> None:
    """Seed 123, untrained 124M model, "Hello, I am": golden on every platform."""
    torch.manual_seed(123)
    model = GPTModel(GPTConfig(dropout_rate=0.1)).eval()
    written = list(generate_plain(model, [15496, 11, 314, 716], max_new_tokens=10, sampling=GREEDY))
    assert written == [27018, 24086, 47843, 30961, 42348, 7267, 49706, 43231, 47062, 34657]
    assert written == list(generate(model, [15496, 11, 314, 716], max_new_tokens=10, sampling=GREEDY))


def test_scores_are_those_of_forward() -> None:
    model = small_model()
    ids: Sequence[int] = [4, 9, 2]
    with torch.no_grad():
        expected = model(torch.tensor([ids]))[0, -1].numpy()
    np.testing.assert_allclose(next_logits(model, list(ids)), expected, atol=1e-5)
