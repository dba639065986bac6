"""A matrix as the decoder reads it (`native.packing` has the layout), made here where no native code was built."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glassgpt.native.compiled import library
from glassgpt.native.packing import PANEL, PackedMatrix, pack
from glassgpt.quantization.formats import Format
from glassgpt.quantization.rounding import quantize_matrix


def packed(matrix: Tensor, kind: Format) -> PackedMatrix:
    """matrix (N, K), quantised, in panels of 16 rows; by the native code where it was built."""
    matrix = matrix.detach().float().cpu()
    return pack(matrix.numpy(), kind, torch.get_num_threads()) if library() else packed_plainly(matrix, kind)


def packed_plainly(matrix: Tensor, kind: Format) -> PackedMatrix:
    """The same without native code."""
    q, scales = quantize_matrix(matrix, kind)
    fill = ((0, -len(q) % PANEL), (0, 0))
    rows = np.pad(q.numpy(), fill)  # (16 P, K')
    fours = rows.reshape(-1, PANEL, rows.shape[1] // 4, 4).swapaxes(1, 2)  # (P, K' / 4, 16, 4)
    if kind == "int8":
        values = _bytes(fours, 128)
    else:
        values = _bytes(fours[:, ::2], 8) | _bytes(fours[:, 1::2], 8) << np.uint8(4)  # (P, K' / 8, 16, 4)
    bits = np.pad(scales.view(torch.uint16).numpy(), fill)
    bits = bits.reshape(-1, PANEL, bits.shape[1]).swapaxes(1, 2)  # (P, K' / G, 16)
    n_rows, n_columns = matrix.shape
    return PackedMatrix(kind, n_rows, n_columns, np.ascontiguousarray(values), np.ascontiguousarray(bits))


def rounded(matrix: Tensor, kind: Format) -> tuple[Tensor, Tensor]:
    """`quantize_matrix`, on the CPU by the native code where it was built, which is far sooner done."""
    if matrix.device.type != "cpu" or not library():
        return quantize_matrix(matrix, kind)
    panels = packed(matrix, kind)
    assert panels.scales is not None
    if kind == "int8":
        fours = (panels.values ^ np.uint8(128)).view(np.int8)  # (P, K' / 4, 16, 4)
    else:
        pairs = np.stack([panels.values & np.uint8(15), panels.values >> np.uint8(4)], axis=2)
        fours = pairs.reshape(len(pairs), -1, PANEL, 4).view(np.int8) - np.int8(8)  # (P, K' / 4, 16, 4)
    q = fours.swapaxes(1, 2).reshape(len(fours) * PANEL, -1)[: len(matrix)]
    bits = panels.scales.swapaxes(1, 2).reshape(len(fours) * PANEL, -1)[: len(matrix)]
    return torch.from_numpy(q), torch.from_numpy(bits).view(torch.bfloat16)


def _bytes(numbers: NDArray[np.int8], more: int) -> NDArray[np.uint8]:
    return numbers.view(np.uint8) + np.uint8(more)
