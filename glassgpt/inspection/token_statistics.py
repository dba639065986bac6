"""What a vocabulary is used for: how often each token stands in a text."""

from collections.abc import Callable
from typing import Any

import numpy as np

from glassgpt.data.shards import Ids

COUNTED = 20_000_000
"""Tokens of the text, at most."""
FREQUENT, LONG, POINTS = 40, 20, 60


def token_statistics(ids: Ids, vocab_size: int, piece: Callable[[int], str]) -> dict[str, Any]:
    """Plain values: `counted` tokens, `used` different ones of `vocab_size`; `frequent` and `long` are lists of [text,
    times], the most frequent and the longest of those that were used; `ranks` are [rank, times], the frequencies in
    order (Zipf 1949) at equal distances on a logarithmic scale.

    `piece` gives the text of a token.
    """
    counts = np.bincount(ids[:COUNTED], minlength=vocab_size)
    order = np.argsort(-counts, kind="stable")
    used = int(np.count_nonzero(counts))
    texts = {token: piece(token) for token in order[:used].tolist()}
    longest = sorted(texts, key=lambda token: (-len(texts[token]), -counts[token]))[:LONG]
    ranks = np.unique(np.geomspace(1, max(1, used), POINTS).astype(np.int64))
    return {
        "counted": int(counts.sum()),
        "used": used,
        "vocab_size": vocab_size,
        "frequent": [[texts[token], int(counts[token])] for token in order[: min(used, FREQUENT)].tolist()],
        "long": [[texts[token], int(counts[token])] for token in longest],
        "ranks": [[rank, int(counts[order[rank - 1]])] for rank in ranks.tolist()] if used else [],
    }
