"""What runs a model for those that write with it: the native decoder, or a PyTorch model."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from glassgpt.config import GPTConfig
from glassgpt.native.spans import Span
from glassgpt.settings import InputError, shown

MOST_SLOTS = 4096
"""Texts at a time that a runner takes at most."""


class Runner(Protocol):
    """A model and its cache of `n_slots` texts, each with room for context_length positions."""

    @property
    def config(self) -> GPTConfig: ...

    @property
    def n_slots(self) -> int: ...

    def forward(self, spans: Sequence[Span]) -> NDArray[np.float32]:
        """The scores that the spans want, one after the other, (sum of n_logits, V); the caller may keep them.

        A slot comes once in a call. A span that starts before the end of what its slot held makes it forget the rest:
        drafts are taken back, and a common beginning is used again, by starting there.
        """
        ...

    def copy(self, source: int, target: int, length: int) -> None:
        """Slot `target` now holds the first `length` positions of slot `source`, and nothing else."""
        ...


def check_slots(n_slots: int) -> None:
    """Raise InputError for a number of slots that no runner should have."""
    if not hasattr(n_slots, "__index__") or not 1 <= n_slots <= MOST_SLOTS:
        raise InputError(
            f"n_slots is {shown(n_slots)}, but must be a whole number from 1 to {MOST_SLOTS:,}: the texts that are "
            "written at a time; others wait"
        )
