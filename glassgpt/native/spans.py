"""What a forward pass is given: pieces of texts, each with its place in the cache."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """`ids` stand at positions start, start + 1, ... of the text in cache slot `slot`, whose positions before `start`
    are cached; scores are wanted of the last `n_logits` of them."""

    slot: int
    start: int
    ids: Sequence[int]
    n_logits: int = 1
