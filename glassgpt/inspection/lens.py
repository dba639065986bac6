"""The logit lens (nostalgebraist 2020): what the model would say if it ended after a layer.

The final norm and the output head are applied to the residual stream before block 0 and after each block. After the
last one that is what the model says.

L layers, T tokens, A alternatives, C embedding_dim, V vocab_size.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from glassgpt.model import GPTModel

AT_ONCE = 2**22
"""Logits that are held at a time."""


@dataclass(frozen=True)
class Lens:
    """What each layer would say."""

    ids: Tensor
    """The likeliest tokens, likeliest first, (L + 1, T, A)."""
    probabilities: Tensor
    """(L + 1, T, A)."""
    true: Tensor
    """The probability of the token that came next, (L + 1, T - 1)."""
    nats: Tensor
    """-log of it after the last layer, (T - 1,)."""
    ranks: Tensor
    """Its rank after the last layer, (T - 1,)."""


def lens(model: GPTModel, layers: Tensor, targets: Tensor, n_alternatives: int) -> Lens:
    """Look through the lens at the streams `layers` (L + 1, T, C); `targets` (T - 1,) came next."""
    n_layers, length = layers.shape[:2]
    rows = layers.flatten(0, 1)  # ((L + 1) T, C)
    # The last token has no next one; it gets any, and what is found for it is left out.
    wanted = torch.cat([targets, targets.new_zeros(1)]).repeat(n_layers)
    a_time = max(1, AT_ONCE // model.config.vocab_size)
    parts = [
        _seen(model, rows[start : start + a_time], wanted[start : start + a_time], n_alternatives)
        for start in range(0, len(rows), a_time)
    ]
    ids, log_probabilities, true, ranks = (
        torch.cat(values).unflatten(0, (n_layers, length)) for values in zip(*parts, strict=True)
    )
    true, ranks = true[:, :-1], ranks[:, :-1]
    return Lens(ids, log_probabilities.exp(), true.exp(), -true[-1], ranks[-1])


def _seen(model: GPTModel, rows: Tensor, wanted: Tensor, n: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of rows (N, C): the likeliest ids (N, n), their log-probabilities, that of `wanted` (N,), and its rank."""
    logits = model.output_head(model.final_norm(rows)).float()  # (N, V)
    values, ids = logits.topk(n, dim=-1)
    of_wanted = logits.gather(1, wanted.unsqueeze(1))  # (N, 1)
    ranks = 1 + (logits > of_wanted).sum(dim=-1)
    normaliser = logits.logsumexp(dim=-1, keepdim=True)
    return ids, values - normaliser, (of_wanted - normaliser).squeeze(1), ranks
