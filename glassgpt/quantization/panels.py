"""Where the weights of a quantised matrix lie, in memory and in files: as the decoder reads them. No torch here.

16 rows at a time are a panel, and the decoder makes 16 outputs of it at once, one in each lane of a vector. For each
panel the columns follow one another, 4 at a time, and for each 4 columns the 16 rows: the instructions that multiply
bytes take 4 neighbours to one sum of 32 bits.

    int8    values[p, j, i, c] = q[16 p + i, 4 j + c] + 128
    int4    values[p, j, i, c] = q[16 p + i, 8 j + c] + 8, and in the high four bits q[16 p + i, 8 j + 4 + c] + 8
    scales[p, g, i] is that of row 16 p + i and group g

values (P, K' / 4 or K' / 8, 16, 4) are uint8; scales (P, K' / G, 16) are the bits of bfloat16, as uint16. Rows up to
16 P and columns up to K' are filled with q = 0, those rows with a scale of 0.
"""

import numpy as np
from numpy.typing import NDArray

from glassgpt.quantization.formats import GROUP, Format

ROWS = 16
"""Rows of a panel."""


def packed_shapes(n_rows: int, n_columns: int, kind: Format) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shapes of values and scales of a matrix (n_rows, n_columns)."""
    panels, groups = -(-n_rows // ROWS), -(-n_columns // GROUP[kind])
    a_time = {"int8": 4, "int4": 8}[kind]
    return (panels, groups * GROUP[kind] // a_time, ROWS, 4), (panels, groups, ROWS)


def to_panels(
    q: NDArray[np.int8], scales: NDArray[np.uint16], kind: Format
) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """q (N, K') and scales (N, K' / G) -> values and scales in panels."""
    missing = ((0, -len(q) % ROWS), (0, 0))
    q, scales = np.pad(q, missing), np.pad(scales, missing)
    quads = q.reshape(-1, ROWS, q.shape[1] // 4, 4).swapaxes(1, 2)  # (P, K' / 4, 16, 4)
    if kind == "int8":
        values = quads.view(np.uint8) ^ np.uint8(128)  # + 128, in eight bits
    else:
        nibbles = (quads + np.int8(8)).view(np.uint8)
        values = nibbles[:, ::2] | nibbles[:, 1::2] << np.uint8(4)
    return np.ascontiguousarray(values), np.ascontiguousarray(scales.reshape(-1, ROWS, scales.shape[1]).swapaxes(1, 2))


def from_panels(
    values: NDArray[np.uint8], scales: NDArray[np.uint16], kind: Format, n_rows: int
) -> tuple[NDArray[np.int8], NDArray[np.uint16]]:
    """What `to_panels` was given."""
    if kind == "int8":
        quads = (values ^ np.uint8(128)).view(np.int8)
    else:
        pairs = np.stack([values & np.uint8(15), values >> np.uint8(4)], axis=2)  # (P, K' / 8, 2, 16, 4)
        quads = pairs.reshape(len(values), -1, ROWS, 4).view(np.int8) - np.int8(8)
    q = quads.swapaxes(1, 2).reshape(len(values) * ROWS, -1)
    return q[:n_rows], scales.swapaxes(1, 2).reshape(len(scales) * ROWS, -1)[:n_rows]
