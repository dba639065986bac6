"""The sampler beside the model: `choose` for many rows of scores at once, where they are.

The scores of 64 texts are 3 million numbers with GPT-2's vocabulary; this leaves them on the device and brings 64
tokens to the host. The steps are those of `generation.sampling`, in its order, in float64 and with its random numbers.
Only the order of sums may differ, by about 1e-15: a token can differ where the draw falls that close to the border of
two.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from glassgpt.generation.sampling import Sampling, uniform
from glassgpt.settings import InputError


@dataclass(frozen=True)
class Draw:
    """What decides a token besides its scores: how it is drawn, the number of its text, and the text so far."""

    sampling: Sampling
    sequence: int
    ids: Sequence[int]


def choose_together(logits: Tensor, draws: Sequence[Draw]) -> list[int]:
    """For each row of scores, (N, V), what `choose` would choose. Needs a device with float64."""
    logits = logits.to(torch.float64, copy=True)
    for row, draw in enumerate(draws):
        _penalise(logits[row], draw)
    highest = logits.amax(dim=1, keepdim=True)  # (N, 1)
    n_tokens = logits.shape[1]
    numbers = torch.arange(n_tokens, device=logits.device)
    tokens = torch.where(logits == highest, numbers, n_tokens).amin(dim=1)  # (N,), the lowest of equals
    if any(draw.sampling.temperature > 0 for draw in draws):
        greedy = logits.new_tensor([draw.sampling.temperature == 0 for draw in draws], dtype=torch.bool)
        tokens = torch.where(greedy, tokens, _drawn(logits - highest, draws))
    # One copy brings all to the host, and float64 holds every id.
    chosen, scores = torch.stack([tokens.double(), highest.squeeze(1)]).tolist()
    for score in scores:
        if not math.isfinite(score):
            raise InputError(f"the model's highest score is {score}: its weights are damaged, take another")
    return [int(token) for token in chosen]


def _penalise(logits: Tensor, draw: Draw) -> None:
    """The repetition penalty of one row (V,), in place."""
    penalty = draw.sampling.repetition_penalty
    if penalty != 1 and draw.ids:
        seen = torch.tensor(sorted(set(draw.ids)), device=logits.device)
        scores = logits[seen]
        logits[seen] = torch.where(scores > 0, scores / penalty, scores * penalty)


def _drawn(scores: Tensor, draws: Sequence[Draw]) -> Tensor:
    """The drawn token of each row, (N,); scores (N, V) float64, the highest of each row 0."""
    samplings, n_tokens = [draw.sampling for draw in draws], scores.shape[1]

    def column(values: list[float]) -> Tensor:
        return scores.new_tensor(values).unsqueeze(1)  # (N, 1)

    # A row that does not want a filter gets the number with which it keeps everything.
    scores = scores / column([sampling.temperature or 1.0 for sampling in samplings])
    weights = scores.exp()  # (N, V)
    if any(sampling.top_k is not None for sampling in samplings):
        ranks = column([min(sampling.top_k or n_tokens, n_tokens) - 1 for sampling in samplings]).long()
        last = scores.sort(dim=1, descending=True).values.gather(1, ranks)
        weights *= scores >= last
    weights /= weights.sum(dim=1, keepdim=True)
    if any(sampling.top_p is not None for sampling in samplings):
        shares = column([share if (share := sampling.top_p or 1.0) < 1 else math.inf for sampling in samplings])
        descending = weights.sort(dim=1, descending=True).values
        ranks = (descending.cumsum(dim=1) < shares).sum(dim=1, keepdim=True).clamp(max=n_tokens - 1)
        weights *= weights >= descending.gather(1, ranks)
        weights /= weights.sum(dim=1, keepdim=True)
    if any(sampling.min_p is not None for sampling in samplings):
        least = column([sampling.min_p or 0.0 for sampling in samplings])
        weights *= weights >= least * weights.amax(dim=1, keepdim=True)
        weights /= weights.sum(dim=1, keepdim=True)

    ends = weights.cumsum(dim=1)
    uniforms = column([uniform(draw.sampling.seed, draw.sequence, len(draw.ids)) for draw in draws])
    return (ends <= uniforms * ends[:, -1:]).sum(dim=1)
