"""What a model thought of each token that it wrote: its probability, its rank, and what else might have stood there."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Candidate:
    """A token that might have been written."""

    id: int
    token: str
    probability: float


@dataclass(frozen=True)
class ScoredToken:
    """A token that was written. Probabilities are the model's own: at temperature 1, before any filter."""

    id: int
    token: str
    """Its text; bytes that are only a part of a character as \\xe2."""
    probability: float
    rank: int
    """1: the likeliest. Equals share a rank."""
    alternatives: tuple[Candidate, ...]
    """The likeliest of the others, likeliest first."""


def score(
    logits: NDArray[np.floating], token: int, text_of: Callable[[int], str], n_alternatives: int = 5
) -> ScoredToken:
    """What the scores (V,) say about `token` and about the tokens that it was chosen before."""
    weights = np.exp(logits.astype(np.float64) - logits.max())
    probabilities = weights / weights.sum()
    n = min(n_alternatives + 1, len(logits))
    likeliest = np.argpartition(-probabilities, n - 1)[:n]
    likeliest = likeliest[np.lexsort((likeliest, -probabilities[likeliest]))]
    others = [int(other) for other in likeliest if other != token][:n_alternatives]
    return ScoredToken(
        token,
        text_of(token),
        float(probabilities[token]),
        1 + int((logits > logits[token]).sum()),
        tuple(Candidate(other, text_of(other), float(probabilities[other])) for other in others),
    )
