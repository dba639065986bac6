"""Keys and values of the tokens seen so far, kept between calls of the model.

Attention at a new token needs the keys and values of all tokens before it, and these never change. The
caller keeps them, and the model computes the new token's only: generating n tokens then costs n positions
instead of n^2 / 2.

Shapes: B batch, K heads of keys and values, T new positions, S positions in all, D width of a head.
"""

from torch import Tensor


class KeyValueCache:
    """One layer's keys and values, in room for `capacity` positions that is given, or made when the first arrive."""

    def __init__(self, capacity: int, room: tuple[Tensor, Tensor] | None = None) -> None:
        self.capacity = capacity
        self.length = 0
        self._room = room

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Keep (B, K, T, D) more and return all there are, (B, K, S, D) each, as views."""
        end = self.length + keys.shape[2]
        if end > self.capacity:
            raise ValueError(f"{end} positions do not fit a cache of {self.capacity}")
        if self._room is None:
            shape = (keys.shape[0], keys.shape[1], self.capacity, keys.shape[3])
            self._room = keys.new_empty(shape), values.new_empty(shape)
        all_keys, all_values = self._room  # (B, K, capacity, D)
        all_keys[:, :, self.length : end] = keys
        all_values[:, :, self.length : end] = values
        self.length = end
        return all_keys[:, :, :end], all_values[:, :, :end]

    def copy_from(self, other: "KeyValueCache", length: int) -> None:
        """Forget every position and keep the first `length` of another cache instead."""
        self.length = 0
        if other._room is not None:
            keys, values = other._room
            self.append(keys[:, :, :length], values[:, :, :length])

    def clear(self) -> None:
        """Forget every position; the room stays."""
        self.length = 0


def make_cache(n_layers: int, capacity: int) -> list[KeyValueCache]:
    """One for each layer: what `GPTModel.forward` takes as `cache`."""
    return [KeyValueCache(capacity) for _ in range(n_layers)]
