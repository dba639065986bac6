"""Causal scaled dot-product attention (Vaswani et al. 2017, equation 1), step by step and fast.

Shapes: B batch, H heads of the queries, K heads of keys and values (K divides H: grouped-query attention,
Ainslie et al. 2023), T query positions, S key positions, D width of a head. The T queries stand at the last T of
the S positions, so query t sees keys 0 ... S - T + t.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def causal_mask(n_queries: int, n_keys: int, device: torch.device | None = None) -> Tensor:
    """True where a query may look: (T, S) bool, the lower triangle aligned with the last key."""
    return torch.ones(n_queries, n_keys, dtype=torch.bool, device=device).tril(n_keys - n_queries)


def attention_weights(queries: Tensor, keys: Tensor) -> Tensor:
    """How much each query looks at each key: (B, H, T, S), every row sums to 1."""
    keys = keys.repeat_interleave(queries.shape[1] // keys.shape[1], dim=1)  # (B, H, S, D)
    scores = queries @ keys.transpose(-2, -1) / math.sqrt(queries.shape[-1])  # (B, H, T, S)
    hidden = ~causal_mask(queries.shape[2], keys.shape[2], queries.device)
    return scores.masked_fill(hidden, -math.inf).softmax(dim=-1)


def plain_attention(
    queries: Tensor, keys: Tensor, values: Tensor, dropout: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """The chapter's attention: scores, mask, softmax, dropout on the weights, weighted sum.

    queries (B, H, T, D), keys and values (B, K, S, D) -> (B, H, T, D).
    """
    weights = attention_weights(queries, keys)
    if dropout is not None:
        weights = dropout(weights)
    return weights @ values.repeat_interleave(queries.shape[1] // values.shape[1], dim=1)


def fast_attention(queries: Tensor, keys: Tensor, values: Tensor, dropout_p: float = 0.0) -> Tensor:
    """The same through PyTorch's fused kernel, which never holds all the weights."""
    n_queries, n_keys = queries.shape[2], keys.shape[2]
    grouped = queries.shape[1] != keys.shape[1]
    if n_queries in (1, n_keys):  # a single query sees every key; as many queries as keys make the usual triangle
        return F.scaled_dot_product_attention(
            queries, keys, values, dropout_p=dropout_p, is_causal=n_queries > 1, enable_gqa=grouped
        )
    mask = causal_mask(n_queries, n_keys, queries.device)
    return F.scaled_dot_product_attention(queries, keys, values, mask, dropout_p, enable_gqa=grouped)


def masked_attention(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """The same for texts of different lengths in one batch, where a mask says which keys each query sees.

    mask (B, 1, T, S) is added to the scores: 0 or -inf. The R = H / K query heads that share a head of keys stand one
    below the other: kernels that take a mask know no groups, and would want the keys once for each query head.
    """
    n_sharing = queries.shape[1] // keys.shape[1]
    rows = queries.reshape(*keys.shape[:2], -1, queries.shape[-1])  # (B, K, R T, D)
    if n_sharing > 1 and queries.shape[2] > 1:
        mask = mask.repeat(1, 1, n_sharing, 1)
    return F.scaled_dot_product_attention(rows, keys, values, mask).reshape(queries.shape)


QUERIES = 256
"""Queries that `bf16_attention` takes at a time: they meet only the keys up to the last of them."""


def bf16_attention(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Attention of as many queries as keys in bf16, for training on the CPU: the shapes of `plain_attention`.

    It keeps its weights for the backward pass, 2 bytes for each query and key. PyTorch's fused kernel computes them
    anew and takes 1.4 (1,024 positions) to 2.5 (256 positions) times as long, forward and backward together.
    """
    return _Bf16Attention.apply(*(x.to(torch.bfloat16) for x in (queries, keys, values)))


class _Bf16Attention(torch.autograd.Function):
    """P = softmax(Q K^T / sqrt(D)), O = P V; backward, dS = P * (dP - the sum of P * dP over each row).

    The R = H / K query heads that share a head of keys stand one below the other, so that every product is a plain
    one in a batch of B K.
    """

    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:  # pyrefly: ignore[bad-override]
        shape, (length, dim) = queries.shape, keys.shape[2:]
        keys, values = keys.reshape(-1, length, dim), values.reshape(-1, length, dim)  # (B K, T, D)
        queries = (queries / math.sqrt(dim)).reshape(len(keys), -1, length, dim)  # (B K, R, T, D)
        output = torch.empty_like(queries)
        weights = []
        for start in range(0, length, QUERIES):
            rows, end = slice(start, start + QUERIES), min(length, start + QUERIES)
            block = queries[:, :, rows].flatten(1, 2)  # (B K, R rows, D)
            hidden = torch.full((end - start, end), -math.inf, dtype=block.dtype).triu(start + 1)
            scores = torch.baddbmm(hidden.repeat(queries.shape[1], 1), block, keys[:, :end].mT)  # (B K, R rows, end)
            weights.append(scores.softmax(dim=-1))
            output[:, :, rows] = (weights[-1] @ values[:, :end]).unflatten(1, (-1, end - start))
        ctx.save_for_backward(queries, keys, values, *weights)
        return output.view(shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        queries, keys, values, *weights = ctx.saved_tensors
        shape, n_batch = gradients[0].shape, len(gradients[0])
        gradient = gradients[0].reshape(queries.shape)
        d_queries, d_keys, d_values = (torch.zeros_like(x) for x in (queries, keys, values))
        for number, probabilities in enumerate(weights):
            rows, end = slice(number * QUERIES, (number + 1) * QUERIES), probabilities.shape[-1]
            block, wanted = (x[:, :, rows].flatten(1, 2) for x in (queries, gradient))
            d_values[:, :end] += probabilities.mT @ wanted
            d_scores = wanted @ values[:, :end].mT
            d_scores = torch._softmax_backward_data(d_scores, probabilities, -1, d_scores.dtype)
            d_keys[:, :end] += d_scores.mT @ block
            d_queries[:, :, rows] = (d_scores @ keys[:, :end]).unflatten(1, (queries.shape[1], -1))
        d_queries /= math.sqrt(queries.shape[-1])
        d_keys, d_values = (x.view(n_batch, -1, *x.shape[1:]) for x in (d_keys, d_values))
        return d_queries.view(shape), d_keys, d_values
