"""How hard a text is to predict, in about half a second: two scores of its validation part that need no training.

What a GPT reaches on a text is about a multiple of powers of the two that depends on its size and training (`scaling`).
Fitted to eight texts, prose, verse, code and markup, it left 1.5 %; a ninth, mostly boilerplate, was 16 to 20 % off,
and code that a model trains on for long becomes better than foreseen by as much and more (docs/log.md). One score is
of an n-gram model that has read the training part, so it tells how much of the text is like what came before. The
other is of deflate on the validation part alone: how much of a passage repeats what is a little further up.
"""

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glassgpt.text.corpus import Corpus

_ORDER = 5
COUNTED = _ORDER + 1
"""Bytes whose sequences the n-gram model counts: the next one and those before it."""
_PIECES = 16
_TRAINED, _SCORED, _DEFLATED = 2**19, 2**15, 2**17
"""Characters looked at, spread evenly over their part in pieces."""

_Numbers = NDArray[np.uint64]


@dataclass(frozen=True, kw_only=True)
class Difficulty:
    """In bits per byte of the validation part of a text."""

    ngram: float
    """Under an n-gram model of the training part; 8 for a text of a few bytes."""
    deflated: float
    """Compressed by deflate, without what came before."""


def difficulty(corpus: Corpus, val_fraction: float = 0.1) -> Difficulty:
    """Of texts that follow each other, the last `val_fraction` of their characters being the validation part."""
    total = corpus.n_characters
    cut = int(total * (1 - val_fraction))
    train = _spread(corpus, 0, cut, _TRAINED, _PIECES)
    val = _spread(corpus, cut, total, _SCORED, _PIECES)
    long = _spread(corpus, cut, total, _DEFLATED, 4)  # pieces as long as deflate looks back
    deflated = 8 * len(zlib.compress(long, 9)) / max(1, len(long))
    return Difficulty(ngram=_ngram_bits_per_byte(train, val), deflated=min(8.0, deflated))


def _spread(corpus: Corpus, first: int, end: int, wanted: int, pieces: int) -> bytes:
    """About `wanted` characters between two positions, in so many pieces at equal distances."""
    if end - first <= wanted:
        return corpus.text(first, end).encode()
    size = wanted // pieces
    starts = [first + (end - first - size) * piece // (pieces - 1) for piece in range(pieces)]
    return "".join(corpus.text(start, start + size) for start in starts).encode()


def _ngram_bits_per_byte(trained: bytes, scored: bytes) -> float:
    """Of `scored` under a mix of contexts of 0 to 5 bytes of `trained`.

    Each is weighted by how often it was seen against how many continuations it had (Witten & Bell 1991).
    """
    train, val = (np.frombuffer(part, np.uint8).astype(np.uint64) for part in (trained, scored))
    if len(train) <= _ORDER or len(val) <= _ORDER:
        return 8.0
    chance = np.full(len(val) - _ORDER, 1 / 256)
    for order in range(_ORDER + 1):
        contexts, wanted = _contexts(train, order), _contexts(val, order)
        grams, gram_counts = np.unique(contexts * np.uint64(256) + train[_ORDER:], return_counts=True)
        seen = _look_up(*np.unique(contexts, return_counts=True), wanted)
        kinds = _look_up(*np.unique(grams // np.uint64(256), return_counts=True), wanted)
        continued = _look_up(grams, gram_counts, wanted * np.uint64(256) + val[_ORDER:])
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
