"""How hard a text is to predict, in about a third of a second: the score of an n-gram model on its end.

The model mixes contexts of 0 to 5 bytes, each weighted by how often it was seen against how many continuations it had
(Witten & Bell 1991). What a GPT reaches on the same text is a share of this that depends on its size and training.
"""

import numpy as np
from numpy.typing import NDArray

_ORDER = 5
_TRAINED, _SCORED = 2**19, 2**15
"""Bytes looked at: these before the last tenth of the text, these at its beginning."""

_Numbers = NDArray[np.uint64]


def ngram_bits_per_byte(text: str, val_fraction: float = 0.1) -> float:
    """Bits per byte of the validation part of `text` under an n-gram model of the part before it.

    A text of fewer than about 20 bytes gives 8.
    """
    content = np.frombuffer(text.encode(), np.uint8).astype(np.uint64)
    cut = int(len(content) * (1 - val_fraction))
    train, val = content[max(0, cut - _TRAINED) : cut], content[cut : cut + _SCORED]
    if len(train) <= _ORDER or len(val) <= _ORDER:
        return 8.0
    chance = np.full(len(val) - _ORDER, 1 / 256)
    for order in range(_ORDER + 1):
        contexts, scored = _contexts(train, order), _contexts(val, order)
        grams, gram_counts = np.unique(contexts * np.uint64(256) + train[_ORDER:], return_counts=True)
        seen = _look_up(*np.unique(contexts, return_counts=True), scored)
        kinds = _look_up(*np.unique(grams // np.uint64(256), return_counts=True), scored)
        continued = _look_up(grams, gram_counts, scored * np.uint64(256) + val[_ORDER:])
        weight = seen / np.maximum(seen + kinds, 1)
        chance = weight * continued / np.maximum(seen, 1) + (1 - weight) * chance
    return float(-np.log2(chance).mean())


def _contexts(content: _Numbers, order: int) -> _Numbers:
    """The `order` bytes before each position from _ORDER on, as one number."""
    packed = np.zeros(len(content) - _ORDER, np.uint64)
    for back in range(order, 0, -1):
        packed = packed * np.uint64(256) + content[_ORDER - back : len(content) - back]
    return packed


def _look_up(keys: _Numbers, counts: NDArray[np.intp], wanted: _Numbers) -> NDArray[np.intp]:
    """The count of each wanted key, 0 where it is none."""
    index = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[index] == wanted, counts[index], 0)
