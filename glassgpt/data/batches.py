"""Which tokens step n sees, as arithmetic on (seed, n): no loader, no state, nothing to lose on a resume.

An epoch cuts the text into windows of `context_length` targets and visits them in shuffled order. The cuts are
shifted by a random amount each epoch, so that a token meets other contexts in the next one; the two windows at
the ends are then short. They are moved inward to full length, and the targets that a neighbour already has are
marked IGNORED: every position of the text is a target exactly once an epoch.
"""

import functools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from glassgpt.data.shards import Ids
from glassgpt.ops.loss import IGNORED
from glassgpt.settings import InputError


@dataclass(frozen=True)
class Batches:
    """Batches of `batch_size` windows of `context_length` tokens from `ids`."""

    ids: Ids
    context_length: int
    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        if len(self.ids) <= self.context_length:
            raise InputError(
                f"the text has {len(self.ids)} tokens to train on, but model.context_length is {self.context_length}: "
                "give more text or a shorter context (--model.context-length)"
            )

    @property
    def windows_per_epoch(self) -> int:
        """Windows that cover every target once, wherever the cuts fall."""
        return -(-(len(self.ids) - 1) // self.context_length) + 1

    @property
    def tokens_per_step(self) -> int:
        return self.batch_size * self.context_length

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets of step `step` (from 0), int64, (batch_size, context_length) each.

        The target of a position is the token after it, or IGNORED.
        """
        return self.part(step, 0, 1)

    def part(self, step: int, rank: int, world_size: int) -> tuple[Tensor, Tensor]:
        """The rows of a batch that one of `world_size` processes computes; those of all, by rank, are the batch.

        Raises InputError where `world_size` does not divide the batch.
        """
        n_rows = self.batch_size // world_size
        if n_rows * world_size != self.batch_size:
            raise InputError(
                f"optim.batch_size is {self.batch_size}, but must be a multiple of the {world_size} processes that "
                "share each batch: choose another"
            )
        starts = self._starts(step)[rank * n_rows : (rank + 1) * n_rows]
        inside = self._inside(starts)
        positions = inside[:, None] + np.arange(self.context_length + 1)  # (batch_size, context_length + 1)
        tokens = torch.from_numpy(self.ids[positions].astype(np.int64))
        behind = positions[:, :-1]
        covered = (behind >= starts[:, None]) & (behind < starts[:, None] + self.context_length)
        targets = tokens[:, 1:].masked_fill(torch.from_numpy(~covered), IGNORED)
        return tokens[:, :-1].contiguous(), targets

    def spans(self, step: int) -> list[tuple[int, int]]:
        """The positions in `ids` that each window of a step reads: the first one, and that of its last target."""
        firsts = self._inside(self._starts(step)).tolist()
        return [(first, first + self.context_length) for first in firsts]

    def _starts(self, step: int) -> np.ndarray:
        """Where the windows of a step begin, (batch_size,); some may stick out at the ends of the text."""
        numbers = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        starts = np.empty(self.batch_size, np.int64)
        for epoch in np.unique(numbers // self.windows_per_epoch):
            chosen = numbers // self.windows_per_epoch == epoch
            order = _starts(self.seed, int(epoch), self.windows_per_epoch, self.context_length)
            starts[chosen] = order[numbers[chosen] % self.windows_per_epoch]
        return starts

    def _inside(self, starts: np.ndarray) -> np.ndarray:
        """The same, moved inward to full length."""
        return starts.clip(0, len(self.ids) - 1 - self.context_length)


@functools.lru_cache(maxsize=2)  # a pure function, needed again for every batch of an epoch
def _starts(seed: int, epoch: int, n_windows: int, context_length: int) -> np.ndarray:
    """Where the windows of an epoch begin, in the order of their visit; the first and last may stick out."""
    generator = np.random.Generator(np.random.Philox(key=[seed, epoch]))
    shift = int(generator.integers(context_length))
    return shift - context_length + generator.permutation(n_windows) * context_length
