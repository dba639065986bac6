"""From scores to a token: greedy, or drawn with temperature, top-k, top-p and min-p, in numpy and float64.

Every path that generates (the chapter's loop, the cached one, the native decoder) calls this one sampler, and
the random number of a token depends on nothing but (seed, sequence, position): whatever else runs in the same
batch, the same scores give the same token.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glassgpt.native import sampler
from glassgpt.native.compiled import library
from glassgpt.settings import InputError


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is drawn.

    The steps apply in this order, which is also that of Hugging Face: repetition_penalty, temperature, top_k, top_p,
    min_p. Each filter sees the probabilities that the one before it left.
    """

    temperature: float = 0.8
    """Divides the scores: below 1 the likely tokens gain, above 1 the unlikely. 0: always the likeliest."""
    top_k: int | None = None
    """Draw among the k likeliest tokens only (Fan et al. 2018)."""
    top_p: float | None = None
    """Draw among the fewest tokens that hold this much probability (nucleus; Holtzman et al. 2020)."""
    min_p: float | None = None
    """Draw among the tokens at least this many times as likely as the likeliest (Nguyen et al. 2024)."""
    repetition_penalty: float = 1.0
    """Above 1, tokens of the text so far lose: a positive score is divided by it, a negative one multiplied (CTRL;
    Keskar et al. 2019). 1: off."""
    seed: int = 1337

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise InputError(f"temperature is {self.temperature}, but must be a number from 0; 0: the likeliest")
        if self.top_k is not None and self.top_k < 1:
            raise InputError(f"top_k is {self.top_k}, but must be at least 1; leave it out for all")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise InputError(f"top_p is {self.top_p}, but must be above 0 and at most 1")
        if self.min_p is not None and not 0 <= self.min_p <= 1:
            raise InputError(f"min_p is {self.min_p}, but must be from 0 to 1; 0: all tokens")
        if not 0.01 <= self.repetition_penalty <= 100:
            raise InputError(
                f"repetition_penalty is {self.repetition_penalty}, but must be from 0.01 to 100; 1: none"
            )
        if not 0 <= self.seed < 2**63:
            raise InputError(f"seed is {self.seed}, but must be in [0, 2^63)")


def choose(logits: NDArray[np.floating], sampling: Sampling, sequence: int, ids: Sequence[int]) -> int:
    """The token to follow `ids`, the whole text of sequence number `sequence` so far, drawn from its scores, (V,).

    In native code where that was built: the same token in a tenth of the time.
    """
    if logits.dtype == np.float32 and logits.flags.c_contiguous and library() is not None:
        token = sampler.choose(logits, _native_choice(sampling, sequence), ids)
        if token < 0:
            _highest(logits)
        return token
    return choose_plain(logits, sampling, sequence, ids)


def choose_plain(logits: NDArray[np.floating], sampling: Sampling, sequence: int, ids: Sequence[int]) -> int:
    """The same in numpy."""
    logits = _penalised(logits, sampling.repetition_penalty, ids)
    if sampling.temperature == 0:
        _highest(logits)
        return int(logits.argmax())  # the lowest id, where several are equal
    candidates, probabilities = _candidates(logits, sampling)
    # Cut [0, 1) into pieces as long as the probabilities, in the order of ids, and see where the draw falls.
    ends = probabilities.cumsum()
    return int(candidates[ends.searchsorted(uniform(sampling.seed, sequence, len(ids)) * ends[-1], side="right")])


def probabilities(logits: NDArray[np.floating], sampling: Sampling, ids: Sequence[int]) -> NDArray[np.float64]:
    """What `choose` draws from: (V,), sums to 1, zero for what the filters take out."""
    result = np.zeros(len(logits))
    if sampling.temperature == 0:
        result[choose(logits, sampling, 0, ids)] = 1.0
    else:
        candidates, kept = _candidates(_penalised(logits, sampling.repetition_penalty, ids), sampling)
        result[candidates] = kept
    return result


def uniform(seed: int, sequence: int, position: int) -> float:
    """The draw in [0, 1) that belongs to (seed, sequence, position).

    Philox (Salmon et al. 2011) is a function without a state: the key is (seed, sequence), the counter the
    position.
    """
    philox = np.random.Philox(key=[seed, sequence], counter=[position, 0, 0, 0])
    return (int(philox.random_raw()) >> 11) / 2**53  # the 53 high bits fill a float64


@functools.lru_cache(maxsize=4096)
def _native_choice(sampling: Sampling, sequence: int) -> sampler.Choice:
    return sampler.Choice(
        temperature=sampling.temperature,
        top_p=1.0 if sampling.top_p is None else sampling.top_p,
        min_p=sampling.min_p or 0.0,
        repetition_penalty=sampling.repetition_penalty,
        top_k=sampling.top_k or 0,
        seed=sampling.seed,
        sequence=sequence,
    )


def _penalised(logits: NDArray[np.floating], penalty: float, ids: Sequence[int]) -> NDArray[np.floating]:
    """The scores after the repetition penalty on every token in `ids`, however often it occurs there."""
    if penalty == 1 or not ids:
        return logits
    scores = logits.astype(np.float64)
    seen = np.asarray(ids)
    scores[seen] = np.where(scores[seen] > 0, scores[seen] / penalty, scores[seen] * penalty)
    return scores


def _candidates(logits: NDArray[np.floating], sampling: Sampling) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The ids that may be drawn, ascending, and their probabilities; equals of the last one kept stay too."""
    # Less the highest score before the division: then exp never overflows, however small the temperature.
    with np.errstate(over="ignore"):
        scores = (logits.astype(np.float64, copy=False) - _highest(logits)) / sampling.temperature
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
    if sampling.min_p is not None:
        likely = weights >= sampling.min_p * weights.max()
        ids, weights = ids[likely], weights[likely]
        weights /= weights.sum()
    return ids, weights


def _highest(logits: NDArray[np.floating]) -> float:
    highest = float(logits.max())
    if not math.isfinite(highest):
        raise InputError(f"the model's highest score is {highest}: its weights are damaged, take another")
    return highest
