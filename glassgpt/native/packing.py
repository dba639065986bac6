"""Weights in the layout that the decoder reads: panels of 16 rows, in one of four formats.

A matrix W (N outputs, K inputs) becomes P = ceil(N / 16) panels, and the inputs of whole-number formats groups of G
columns, K' columns in all. With q the whole numbers, w ~ q * scale:

    fp32   float32 (P, K, 16)        values[p, k, i] = W[16 p + i, k]
    bf16   uint16 (P, ceil(K/2), 16, 2)  values[p, j, i, c] = W[16 p + i, 2 j + c], the upper half of a float32
    int8   uint8 (P, K'/4, 16, 4)    values[p, j, i, c] = q[16 p + i, 4 j + c] + 128, G = 64
    int4   uint8 (P, K'/8, 16, 4)    low four bits q[16 p + i, 8 j + c] + 8, high q[16 p + i, 8 j + 4 + c] + 8, G = 32
    scales uint16 (P, K'/G, 16)      the upper half of a float32

Rows and columns that only fill up have q = 0. The layout is the same for every processor, so it can be kept in a file
and used where it is mapped.
"""

import ctypes
from concurrent.futures import ThreadPoolExecutor
from ctypes import c_int64, c_void_p
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from glassgpt.native.compiled import library

Format = Literal["fp32", "bf16", "int8", "int4"]
FORMATS: tuple[Format, ...] = get_args(Format)
GROUPS = {"int8": 64, "int4": 32}
"""Columns that share a scale."""
PANEL = 16
"""Rows of a panel."""
Weights = NDArray[np.float32] | NDArray[np.float16] | NDArray[np.uint16]
_SOURCES = {np.dtype(np.float32): 0, np.dtype(np.float16): 1, np.dtype(np.uint16): 2}


@dataclass(frozen=True)
class PackedMatrix:
    """A matrix (n_rows, n_columns) in the layout above. Raises ValueError where the arrays do not have its shapes."""

    format: Format
    n_rows: int
    n_columns: int
    values: NDArray[Any]
    scales: NDArray[np.uint16] | None = None

    def __post_init__(self) -> None:
        values, scales = packed_shapes(self.format, self.n_rows, self.n_columns)
        kind = {"fp32": np.float32, "bf16": np.uint16}.get(self.format, np.uint8)
        fits = self.values.shape == values and self.values.dtype == kind
        given = None if self.scales is None else self.scales.shape
        if not fits or given != scales or (self.scales is not None and self.scales.dtype != np.uint16):
            raise ValueError(f"{self.values.shape} and {given} are no {self.format} values {values}, scales {scales}")
        if not self.values.flags.c_contiguous or not (self.scales is None or self.scales.flags.c_contiguous):
            raise ValueError("a packed matrix must lie in one piece")

    @property
    def n_bytes(self) -> int:
        """What reading all of it takes."""
        return self.values.nbytes + (0 if self.scales is None else self.scales.nbytes)


class _Source(ctypes.Structure):
    _fields_ = [
        ("values", c_void_p),
        *((name, c_int64) for name in ("type", "n", "k", "row_stride", "column_stride")),
    ]


def packed_shapes(form: Format, n_rows: int, n_columns: int) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """The shapes of values and scales."""
    panels = -(-n_rows // PANEL)
    if form == "fp32":
        return (panels, n_columns, PANEL), None
    if form == "bf16":
        return (panels, -(-n_columns // 2), PANEL, 2), None
    groups = -(-n_columns // GROUPS[form])
    words = groups * GROUPS[form] // (4 if form == "int8" else 8)
    return (panels, words, PANEL, 4), (panels, groups, PANEL)


def pack(matrix: Weights, form: Format, threads: int = 1) -> PackedMatrix:
    """Round and lay out a matrix (N, K), of any strides; uint16 are the bits of bfloat16.

    The scale of a group is in int8 the least bfloat16 that reaches its largest value; in int4, of twelve, the one with
    the least squared error. Raises MemoryError, and RuntimeError where `library()` is None.
    """
    opened = library()
    if opened is None:
        raise RuntimeError("the native code was not built")
    shape, scale_shape = packed_shapes(form, *matrix.shape)
    kind = {"fp32": np.float32, "bf16": np.uint16}.get(form, np.uint8)
    values = np.empty(shape, kind)
    scales = None if scale_shape is None else np.empty(scale_shape, np.uint16)
    strides = [stride // matrix.itemsize for stride in matrix.strides]
    source = _Source(matrix.ctypes.data, _SOURCES[matrix.dtype], *matrix.shape, *strides)

    def pack_part(first: int, end: int) -> None:
        where = None if scales is None else scales.ctypes.data
        if not opened.glassgpt_pack(ctypes.byref(source), FORMATS.index(form), first, end, values.ctypes.data, where):
            raise MemoryError("there is not enough memory to pack a matrix")

    bounds = [shape[0] * part // threads for part in range(threads + 1)]
    if threads == 1:
        pack_part(0, shape[0])
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(pack_part, bounds, bounds[1:]))
    n_rows, n_columns = matrix.shape
    return PackedMatrix(form, n_rows, n_columns, values, scales)


def unpack(packed: PackedMatrix) -> NDArray[np.float32]:
    """The matrix (N, K) that the packed one stands for."""
    n_rows, n_columns = packed.n_rows, packed.n_columns
    if packed.format == "fp32":
        return packed.values.transpose(0, 2, 1).reshape(-1, n_columns)[:n_rows].copy()
    if packed.scales is None:
        rows = _floats(packed.values).transpose(0, 2, 1, 3).reshape(len(packed.values) * PANEL, -1)
        return rows[:n_rows, :n_columns].copy()
    q, scales = whole_numbers(packed)
    scaled = q.reshape(n_rows, scales.shape[1], -1) * scales[:, :, None]
    return scaled.reshape(n_rows, -1)[:, :n_columns].astype(np.float32)


def whole_numbers(packed: PackedMatrix) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """q (N, K') and scales (N, K' / G) of a matrix in int8 or int4, row after row."""
    assert packed.scales is not None
    if packed.format == "int8":
        fours = (packed.values[:, :, None] ^ np.uint8(128)).view(np.int8)  # (P, words, 1, 16, 4)
    else:
        pairs = np.stack([packed.values & np.uint8(15), packed.values >> np.uint8(4)], axis=2)
        fours = pairs.view(np.int8) - np.int8(8)  # (P, words, 2, 16, 4)
    q = fours.transpose(0, 3, 1, 2, 4).reshape(len(fours) * PANEL, -1)  # (16 P, K')
    scales = _floats(packed.scales).transpose(0, 2, 1).reshape(len(q), -1)  # (16 P, K'/G)
    return q[: packed.n_rows], scales[: packed.n_rows]


def _floats(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    return (bits.astype(np.uint32) << 16).view(np.float32)
