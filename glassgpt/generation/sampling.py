"""From scores to a token: greedy, temperature, top-k and top-p, in numpy and float64.

Every path that generates (the chapter's loop, the cached one, the native decoder) calls this one sampler, and
the random number of a token depends on nothing but (seed, sequence, position): whatever else runs in the same
batch, the same scores give the same token.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glassgpt.settings import InputError


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is drawn. The filters apply in this order: temperature, top_k, top_p."""

    temperature: float = 0.8
    """Divides the scores: below 1 the likely tokens gain, above 1 the unlikely. 0: always the likeliest."""
    top_k: int | None = None
    """Draw among the k likeliest tokens only (Fan et al. 2018)."""
    top_p: float | None = None
    """Draw among the fewest tokens that hold this much probability (nucleus; Holtzman et al. 2020)."""
    seed: int = 1337

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise InputError(f"temperature is {self.temperature}, but must be a number from 0; 0: the likeliest")
        if self.top_k is not None and self.top_k < 1:
            raise InputError(f"top_k is {self.top_k}, but must be at least 1; leave it out for all")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise InputError(f"top_p is {self.top_p}, but must be above 0 and at most 1")
        if not 0 <= self.seed < 2**63:
            raise InputError(f"seed is {self.seed}, but must be in [0, 2^63)")


def choose(logits: NDArray[np.floating], sampling: Sampling, sequence: int, position: int) -> int:
    """The token to stand at `position` of sequence number `sequence`, drawn from its scores, (V,)."""
    if sampling.temperature == 0:
        _highest(logits)
        return int(logits.argmax())  # the lowest id, where several are equal
    ids, probabilities = _candidates(logits, sampling)
    # Cut [0, 1) into pieces as long as the probabilities, in the order of ids, and see where the draw falls.
    ends = probabilities.cumsum()
    return int(ids[ends.searchsorted(uniform(sampling.seed, sequence, position) * ends[-1], side="right")])


def probabilities(logits: NDArray[np.floating], sampling: Sampling) -> NDArray[np.float64]:
    """What `choose` draws from: (V,), sums to 1, zero for what the filters take out."""
    result = np.zeros(len(logits))
    if sampling.temperature == 0:
        result[choose(logits, sampling, 0, 0)] = 1.0
    else:
        ids, kept = _candidates(logits, sampling)
        result[ids] = kept
    return result


def uniform(seed: int, sequence: int, position: int) -> float:
    """The draw in [0, 1) that belongs to (seed, sequence, position).

    Philox (Salmon et al. 2011) is a function without a state: the key is (seed, sequence), the counter the
    position.
    """
    philox = np.random.Philox(key=[seed, sequence], counter=[position, 0, 0, 0])
    return (int(philox.random_raw()) >> 11) / 2**53  # the 53 high bits fill a float64


def _candidates(logits: NDArray[np.floating], sampling: Sampling) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The ids that may be drawn, ascending, and their probabilities; equals of the last one kept stay too."""
    # Less the highest score before the division: then exp never overflows, however small the temperature.
    with np.errstate(over="ignore"):
        scores = (logits.astype(np.float64) - _highest(logits)) / sampling.temperature
    ids = np.arange(len(scores))
    if sampling.top_k is not None and sampling.top_k < len(scores):
        last = np.partition(scores, -sampling.top_k)[-sampling.top_k]
        ids = np.flatnonzero(scores >= last)
        scores = scores[ids]
    weights = np.exp(scores)
    weights /= weights.sum()
    if sampling.top_p is not None and sampling.top_p < 1:
        descending = np.sort(weights)[::-1]
        n_kept = descending.cumsum().searchsorted(sampling.top_p) + 1
        nucleus = weights >= descending[min(n_kept, len(descending)) - 1]
        ids, weights = ids[nucleus], weights[nucleus]
        weights /= weights.sum()
    return ids, weights


def _highest(logits: NDArray[np.floating]) -> float:
    highest = float(logits.max())
    if not math.isfinite(highest):
        raise InputError(f"the model's highest score is {highest}: its weights are damaged, take another")
    return highest
