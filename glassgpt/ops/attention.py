"""Causal scaled dot-product attention (Vaswani et al. 2017, equation 1), step by step and fast.

Shapes: B batch, H heads of the queries, K heads of keys and values (K divides H: grouped-query attention,
Ainslie et al. 2023), T query positions, S key positions, D width of a head. The T queries stand at the last T of
the S positions, so query t sees keys 0 ... S - T + t.
"""

import math
from collections.abc import Callable

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
