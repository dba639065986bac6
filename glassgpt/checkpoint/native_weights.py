"""The weights of a model directory as the native decoder takes them. No torch here."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassgpt.checkpoint.names import Place, places
from glassgpt.checkpoint.packed import SCALES, VALUES, StoredModel, is_packed, matrices
from glassgpt.config import GPTConfig
from glassgpt.native.packing import Format, PackedMatrix, pack, packed_shapes
from glassgpt.settings import InputError


@dataclass(frozen=True)
class NativeWeights:
    """By the names of our parameters."""

    matrices: Mapping[str, PackedMatrix]
    vectors: Mapping[str, NDArray[np.float32]]


def native_weights(stored: StoredModel, kind: Format, threads: int) -> NativeWeights:
    """The weights rounded to `kind` and laid out, one tensor after the other; quantised ones are used where they lie.

    Raises InputError for weights that no scale fits.
    """
    assert stored.format in (None, kind)
    packed = _mapped(stored) if stored.format else _rounded(stored, kind, threads)
    vectors: dict[str, NDArray[np.float32]] = {}
    for place in places(stored.config):
        if place.ours and not is_packed(place):
            vectors |= zip(place.ours, map(np.array, _parts(stored.tensors[place.theirs].floats(), place)), strict=True)
    return NativeWeights(packed, vectors)


def native_bytes(config: GPTConfig, kind: Format) -> int:
    """What `native_weights` takes in memory, as good as all of it in matrices."""
    total = 0
    for n_rows, n_columns in matrices(config).values():
        values, scales = packed_shapes(kind, n_rows, n_columns)
        total += prod(values) * {"fp32": 4, "bf16": 2}.get(kind, 1) + (2 * prod(scales) if scales else 0)
    return total


def _mapped(stored: StoredModel) -> dict[str, PackedMatrix]:
    assert stored.format
    return {
        name: PackedMatrix(
            stored.format, *shape, stored.tensors[name + VALUES].array(), stored.tensors[name + SCALES].array()
        )
        for name, shape in matrices(stored.config).items()
    }


def _rounded(stored: StoredModel, kind: Format, threads: int) -> dict[str, PackedMatrix]:
    found: dict[str, PackedMatrix] = {}
    for place in filter(is_packed, places(stored.config)):
        array = stored.tensors[place.theirs].array()
        for name, part in zip(place.ours, _parts(array.T if place.transposed else array, place), strict=True):
            found[name] = pack(part, kind, threads)
            scales = found[name].scales
            if scales is not None and (scales & 0x7F80 == 0x7F80).any():
                wrong = f"{name} has values that are not finite, so it cannot be rounded to {kind}"
                raise InputError(f"{wrong}: the weights are damaged, take another checkpoint")
    return found


def _parts(rows: NDArray[Any], place: Place) -> list[NDArray[Any]]:
    """The rows of each of our parameters."""
    return np.split(rows, np.cumsum(place.n_rows)[:-1])
