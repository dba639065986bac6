"""A cache of many texts in one tensor that never moves nor grows: each text has a slot, with room for a whole context.

One forward pass takes several slots, whose texts differ in length: each row of the batch then has positions of its
own, and a mask hides what lies behind them. Addresses are the same in every pass, so that it can be recorded once
and replayed.

Shapes: B batch, K heads of keys and values, T new positions, S positions in sight, D width of a head.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from glassgpt.config import GPTConfig
from glassgpt.generation.cache import KeyValueCache
from glassgpt.settings import InputError

ALIGNED = 64
"""The room of a slot is a multiple of so many positions: kernels copy a mask whose rows are not aligned."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What the layers have in common in a pass over several slots."""

    slots: slice | Tensor
    """Which slots the rows are."""
    entries: tuple[Tensor, slice, Tensor]
    """Where in a layer's room, (slots, K, capacity, D), the new keys are to be written, (B, T, K, D)."""
    n_keys: int
    length: int
    positions: Tensor
    mask: Tensor


class SlotsOfLayer:
    """One layer's keys and values of several slots: a `model.RaggedCache`."""

    def __init__(self, keys: Tensor, values: Tensor, batch: Batch) -> None:
        self.length, self.positions, self.mask = batch.length, batch.positions, batch.mask
        self._room = keys, values  # (slots, K, capacity, D)
        self._batch = batch

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Keep (B, K, T, D) more, and return what there is of each row's first S positions, (B, K, S, D) each."""
        batch, (all_keys, all_values) = self._batch, self._room
        all_keys[batch.entries] = keys.transpose(1, 2)
        all_values[batch.entries] = values.transpose(1, 2)
        return all_keys[batch.slots, :, : batch.n_keys], all_values[batch.slots, :, : batch.n_keys]


class SlotCache:
    """The keys and values of `n_slots` texts. How many positions of a slot are in use, its owner knows.

    Raises InputError where the device has no room for it.
    """

    def __init__(self, config: GPTConfig, n_slots: int, device: torch.device, dtype: torch.dtype) -> None:
        self.nowhere = config.context_length
        """A position that no text has: rows of a batch without a text write here."""
        self.capacity = -(-(config.context_length + 1) // ALIGNED) * ALIGNED
        """Positions of a slot, `nowhere` and those after it included."""
        shape = (config.n_layers, 2, n_slots, config.n_kv_heads, self.capacity, config.head_dim)
        # Zeros, because a hidden value still counts 0 times: that is 0 for every number, but not for NaN.
        try:
            self._room = torch.zeros(shape, device=device, dtype=dtype)
        except RuntimeError:  # torch.OutOfMemoryError is one
            gigabytes = math.prod(shape) * dtype.itemsize / 1e9
            raise InputError(
                f"a cache for {n_slots} texts takes {gigabytes:.1f} GB, which {device} does not have: use fewer slots"
            ) from None
        self._layers = [(keys, values) for keys, values in self._room]  # (n_slots, K, capacity, D) each
        self._texts = [
            [KeyValueCache(config.context_length, (keys[n, None], values[n, None])) for keys, values in self._layers]
            for n in range(n_slots)
        ]

    def of_slot(self, slot: int, length: int) -> list[KeyValueCache]:
        """What the model takes as `cache` for the text in one slot, which has `length` positions so far."""
        for layer in self._texts[slot]:
            layer.length = length
        return self._texts[slot]

    def of_slots(self, slots: slice | Tensor, places: Tensor, n_keys: int, length: int) -> list[SlotsOfLayer]:
        """The same for a batch: a row for each of these slots, whose new tokens stand at `places`, (B, T).

        Slots side by side, a slice, are read where they lie; those of a tensor (B,) are copied together. No place is
        `n_keys` or more, but `nowhere`. `length` is the longest text's.
        """
        device = places.device
        numbers = torch.arange(slots.start, slots.stop, device=device) if isinstance(slots, slice) else slots
        hidden = torch.arange(n_keys, device=device) > places.unsqueeze(-1)  # (B, T, S)
        mask = torch.zeros(hidden.shape, device=device, dtype=self._room.dtype).masked_fill_(hidden, -math.inf)
        batch = Batch(
            slots=slots,
            entries=(numbers.unsqueeze(1), slice(None), places),
            n_keys=n_keys,
            length=length,
            positions=places.clamp(max=self.nowhere - 1),
            mask=mask.unsqueeze(1),
        )
        return [SlotsOfLayer(keys, values, batch) for keys, values in self._layers]

    def copy(self, source: int, target: int, length: int) -> None:
        """Give slot `target` the first `length` positions of slot `source`."""
        self._room[:, :, target, :, :length] = self._room[:, :, source, :, :length]
