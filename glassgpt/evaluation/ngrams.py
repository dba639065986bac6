"""What counting reaches: bits per byte of models that know the last none, one or two tokens, and what followed them.

A GPT that is no better than these has learned nothing but which tokens stand side by side. They are interpolated
Kneser–Ney models (Kneser & Ney 1995, as in Chen & Goodman 1999, section 2.7): a discount D is taken from every count
and given to the model of one token less, in which a token counts not by how often it came but by how many tokens it
came after.

    p(w | h) = max(c(h w) - D, 0) / c(h) + D n(h) / c(h) p(w | h without its first token)

c(h) sums c(h w) over all w, and n(h) is how many different w followed h. Below the single token lies 1 / vocab_size.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glassgpt.data.shards import Ids

ORDERS = (1, 2, 3)
MOST_TRAINED, MOST_SCORED = 2**20, 2**17
"""Tokens that are looked at: 2^20 take some 100 MB and half a second."""
MOST_VOCABULARY = 2**21
"""Three ids of a larger one would not fit a number of 64 bits."""

_Keys = NDArray[np.uint64]
"""An n-gram as one number: its ids are the digits to the base of vocab_size, the last token's the lowest."""
_Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class _Counts:
    """How often each n-gram was seen, and each context, which is the n-gram without its last token."""

    grams: _Keys
    """In rising order."""
    counts: NDArray[np.integer]
    contexts: _Keys
    totals: NDArray[np.integer]
    """Of the counts of all n-grams that begin with a context."""
    kinds: NDArray[np.integer]
    """How many they are."""

    @classmethod
    def of(cls, seen: _Keys, vocab_size: int) -> "_Counts":
        grams, counts = np.unique(seen, return_counts=True)
        contexts, starts = np.unique(grams // np.uint64(vocab_size), return_index=True)
        totals = np.add.reduceat(counts, starts) if len(starts) else counts
        return cls(grams, counts, contexts, totals, np.diff(starts, append=len(grams)))

    @property
    def discount(self) -> float:
        """The estimate of Ney, Essen & Kneser 1994 from how many were seen once and twice; 1/2 where one is none."""
        once, twice = (int((self.counts == times).sum()) for times in (1, 2))
        return once / (once + 2 * twice) if once and twice else 0.5

    def probabilities(self, wanted: _Keys, lower: _Numbers, vocab_size: int) -> _Numbers:
        """Of the last tokens of the n-grams `wanted`, where the model of one token less gives them `lower`."""
        at = wanted // np.uint64(vocab_size)
        total = _look_up(self.contexts, self.totals, at)
        taken = self.discount * _look_up(self.contexts, self.kinds, at)
        kept = np.maximum(_look_up(self.grams, self.counts, wanted) - self.discount, 0.0)
        return np.where(total > 0, (kept + taken * lower) / np.maximum(total, 1), lower)


class NGrams:
    """The models of one, two and three tokens of a text, given as ids below `vocab_size`."""

    def __init__(self, ids: Ids, vocab_size: int) -> None:
        assert vocab_size <= MOST_VOCABULARY
        self.vocab_size = vocab_size
        self.seen = {order: _Counts.of(_grams(ids, order, vocab_size), vocab_size) for order in ORDERS}
        """As often as they came."""
        self.preceded = {
            order: _Counts.of(self.seen[order + 1].grams % np.uint64(vocab_size**order), vocab_size)
            for order in ORDERS[:-1]
        }
        """Counted by the different tokens that came before them."""

    def probabilities(self, ids: Ids, order: int) -> _Numbers:
        """Of every token of `ids` but the first, from the up to `order` - 1 tokens before it."""
        chance = np.full(len(ids) - 1, 1 / self.vocab_size)
        for n in range(1, order + 1):
            counts = self.seen[n] if n == order else self.preceded[n]
            late = max(0, n - 2)  # tokens that have too few before them keep what they have
            wanted = _grams(ids[1:] if n == 1 else ids, n, self.vocab_size)
            chance[late:] = counts.probabilities(wanted, chance[late:], self.vocab_size)
        return chance


def ngram_bits_per_byte(
    train: Ids, val: Ids, token_bytes: NDArray[np.integer], vocab_size: int, most_tokens: int = MOST_TRAINED
) -> dict[str, float]:
    """What `val` costs the models of one, two and three tokens of `train`, by "1", "2" and "3".

    As of a GPT (`bits_per_byte`), the first token is context only, and a separator costs bits and has no bytes. The
    first `most_tokens` of `train` are counted and at most MOST_SCORED of `val` scored. Empty where that is no text, or
    the vocabulary is larger than MOST_VOCABULARY.
    """
    scored = val[: MOST_SCORED + 1]
    n_bytes = int(token_bytes[scored[1:]].sum()) if len(scored) > 1 else 0
    if vocab_size > MOST_VOCABULARY or len(train) < max(ORDERS) or not n_bytes:
        return {}
    models = NGrams(train[: min(most_tokens, MOST_TRAINED)], vocab_size)
    nats = {str(order): -float(np.log(models.probabilities(scored, order)).sum()) for order in ORDERS}
    return {order: found / math.log(2) / n_bytes for order, found in nats.items()}


def _grams(ids: Ids, order: int, vocab_size: int) -> _Keys:
    """The n-grams of `ids` from left to right."""
    keys = np.zeros(max(0, len(ids) - order + 1), np.uint64)
    for place in range(order):
        keys = keys * np.uint64(vocab_size) + ids[place : place + len(keys)].astype(np.uint64)
    return keys


def _look_up(keys: _Keys, values: NDArray[np.integer], wanted: _Keys) -> NDArray[np.integer]:
    """The value of each wanted key, 0 where it is none of `keys`."""
    index = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[index] == wanted, values[index], 0)
