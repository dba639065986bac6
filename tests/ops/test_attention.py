import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from glassgpt.ops.attention import (
    QUERIES,
    attention_weights,
    bf16_attention,
    causal_mask,
    fast_attention,
    masked_attention,
    plain_attention,
)
from glassgpt.ops.dropout import portable_dropout


def random_heads(n_heads: int, n_kv_heads: int, n_queries: int, n_keys: int, seed: int = 0) -> list[Tensor]:
    """Queries (2, H, T, 8), keys and values (2, K, S, 8)."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [(2, n_heads, n_queries, 8), (2, n_kv_heads, n_keys, 8), (2, n_kv_heads, n_keys, 8)]
    return [torch.randn(size, generator=generator) for size in sizes]


def attention_by_loops(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Equation 1 of Vaswani et al., one query at a time."""
    out = torch.empty(queries.shape)
    sharing = queries.shape[1] // keys.shape[1]
    offset = keys.shape[2] - queries.shape[2]
    for b, h, t in torch.cartesian_prod(*(torch.arange(n) for n in queries.shape[:3])).tolist():
        seen = keys[b, h // sharing, : offset + t + 1]
        shares = (seen @ queries[b, h, t] / math.sqrt(queries.shape[-1])).softmax(dim=0)
        out[b, h, t] = shares @ values[b, h // sharing, : offset + t + 1]
    return out


@settings(max_examples=40, deadline=None)
@given(n_kv_heads=st.integers(1, 3), sharing=st.integers(1, 3), n_queries=st.integers(1, 6), cached=st.integers(0, 5))
def test_plain_and_fast_equal_the_loops_grouped_and_cached(
    n_kv_heads: int, sharing: int, n_queries: int, cached: int
) -> None:
    inputs = random_heads(n_kv_heads * sharing, n_kv_heads, n_queries, n_queries + cached)
    expected = attention_by_loops(*inputs)
    torch.testing.assert_close(plain_attention(*inputs), expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(fast_attention(*inputs), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("n_heads", "n_kv_heads", "cached"), [(4, 4, 0), (4, 2, 0), (4, 2, 3)])
def test_plain_and_fast_have_equal_gradients(n_heads: int, n_kv_heads: int, cached: int) -> None:
    gradients = []
    for attention in (plain_attention, fast_attention):
        inputs = [x.requires_grad_() for x in random_heads(n_heads, n_kv_heads, 5, 5 + cached)]
        gradients.append(torch.autograd.grad(attention(*inputs).square().sum(), inputs))
    for plain, fast in zip(*gradients):
        torch.testing.assert_close(plain, fast, atol=1e-5, rtol=1e-4)


@settings(max_examples=40, deadline=None)
@given(
    n_kv_heads=st.integers(1, 3),
    sharing=st.integers(1, 3),
    n_queries=st.integers(1, 4),
    starts=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    behind=st.integers(0, 3),
)
def test_texts_of_different_lengths_are_each_as_alone(
    n_kv_heads: int, sharing: int, n_queries: int, starts: tuple[int, int], behind: int
) -> None:
    ends = [start + n_queries for start in starts]
    queries, keys, values = random_heads(n_kv_heads * sharing, n_kv_heads, n_queries, max(ends) + behind)
    mask = torch.zeros(2, 1, n_queries, keys.shape[2])
    for b, start in enumerate(starts):
        for t in range(n_queries):
            mask[b, :, t, start + t + 1 :] = -math.inf
    found = masked_attention(queries, keys, values, mask)
    for b, end in enumerate(ends):
        alone = plain_attention(queries[b, None], keys[b, None, :, :end], values[b, None, :, :end])
        torch.testing.assert_close(found[b, None], alone, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("n_heads", "n_kv_heads", "length"), [(3, 3, 5), (4, 2, QUERIES), (2, 1, 2 * QUERIES + 3)])
def test_bf16_attention_is_the_plain_one_to_two_digits(n_heads: int, n_kv_heads: int, length: int) -> None:
    found = []
    for attention in (plain_attention, bf16_attention):
        inputs = [x.requires_grad_() for x in random_heads(n_heads, n_kv_heads, length, length)]
        output = attention(*inputs)
        towards = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
        found.append([output.detach(), *torch.autograd.grad((output.float() * towards).sum(), inputs)])
    for plain, half in zip(*found):
        assert float((half.float() - plain).norm() / plain.norm()) < 0.02


def test_the_mask_is_a_triangle_that_ends_at_the_last_key() -> None:
    assert causal_mask(2, 4).tolist() == [[True, True, True, False], [True, True, True, True]]


def test_weights_sum_to_1_and_are_0_for_what_comes_later() -> None:
    queries, keys, _ = random_heads(4, 2, 3, 5)
    weights = attention_weights(queries, keys)
    assert weights.shape == (2, 4, 3, 5)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 4, 3))
    assert not weights.masked_select(~causal_mask(3, 5)).any()


def test_dropout_acts_on_the_weights() -> None:
    queries, keys, values = random_heads(2, 2, 4, 4)
    torch.manual_seed(3)
    expected = portable_dropout(attention_weights(queries, keys), 0.5) @ values
    torch.manual_seed(3)
    assert torch.equal(plain_attention(queries, keys, values, lambda w: portable_dropout(w, 0.5)), expected)
