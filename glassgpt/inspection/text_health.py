"""What a text is like to learn from: how much of it comes again, and how well its tokens suit it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassgpt.data.shards import Ids

PASSAGE = 100
"""Bytes of a passage, about, that is looked for elsewhere in the text."""
LOOKED_AT = 2**20
"""Tokens of the training text, from its beginning."""

_MIX = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class TextHealth:
    """Counts of a prepared text."""

    tokenizer: str
    vocab_size: int
    train_tokens: int
    tokens_per_character: float
    bytes_per_token: float
    used: int
    """Different tokens in the training text."""
    repeated: float
    """Share of the passages that came before."""

    @classmethod
    def of(cls, train: Ids, facts: Mapping[str, Any]) -> "TextHealth":
        """Of training ids and the facts in prepared.json."""
        ids, n_tokens = train[:LOOKED_AT], facts["train_tokens"] + facts["val_tokens"]
        bytes_per_token = facts["bytes"] / max(1, n_tokens)
        return cls(
            tokenizer=facts["tokenizer"],
            vocab_size=facts["vocab_size"],
            train_tokens=facts["train_tokens"],
            tokens_per_character=n_tokens / max(1, facts["characters"]),
            bytes_per_token=bytes_per_token,
            used=len(np.unique(ids)),
            repeated=repeated_share(ids, max(4, round(PASSAGE / max(bytes_per_token, 0.01)))),
        )


def repeated_share(ids: Ids, length: int) -> float:
    """Share of the passages of `length` tokens, one beginning at each token, that stand further up already."""
    if len(ids) <= length:
        return 0.0
    hashed: NDArray[np.uint64] = np.zeros(len(ids) - length + 1, np.uint64)
    for place in range(length):
        hashed = (hashed + ids[place : place + len(hashed)].astype(np.uint64) + np.uint64(1)) * _MIX
        hashed ^= hashed >> np.uint64(29)
    return 1 - len(np.unique(hashed)) / len(hashed)
