"""What kind of head it is, by where it looks.

A previous-token head looks at the token before, a first-token head at the first one, which is where heads look that
have nothing to do (Xiao et al. 2023). An induction head completes what was there before: at the second `Mr` it looks
at the `Dursley` that followed the first (Olsson et al. 2022).
"""

import torch
from torch import Tensor

from glassgpt.inspection.observed import observe
from glassgpt.model import GPTModel

SAID_TWICE = 50
"""Random tokens that are said twice, at most: half of the context, and no token more than once."""


def previous_token_scores(weights: Tensor) -> Tensor:
    """The mean weight of the token before, over all tokens but the first: (L, H, T, T) -> (L, H)."""
    return weights.diagonal(-1, dim1=-2, dim2=-1).float().mean(dim=-1)


def first_token_scores(weights: Tensor) -> Tensor:
    """The mean weight of the first token, over all tokens but itself: (L, H, T, T) -> (L, H)."""
    return weights[..., 1:, 0].float().mean(dim=-1)


def induction_scores(model: GPTModel) -> Tensor:
    """On n random tokens said twice, the mean weight that each of the second n gives to what followed it the first
    time, n - 1 tokens before: (L, H). nan where the context has no room for it."""
    ids = random_ids(model.config.vocab_size, model.config.context_length)
    if not len(ids):
        return torch.full((len(model.blocks), model.config.n_heads), torch.nan)
    weights = observe(model, ids.repeat(2)).weights  # (L, H, 2 n, 2 n)
    followed = weights.diagonal(1 - len(ids), dim1=-2, dim2=-1)  # of the tokens n - 1, n, ...
    return followed[..., 1:].float().mean(dim=-1)


def random_ids(vocab_size: int, context_length: int) -> Tensor:
    """The tokens to be said twice, always the same, (n,)."""
    drawn = torch.randperm(vocab_size, generator=torch.Generator().manual_seed(0))
    return drawn[: min(SAID_TWICE, context_length // 2)]
