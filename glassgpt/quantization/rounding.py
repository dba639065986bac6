"""A matrix in whole numbers of 8 or 4 bits: w ~ q * scale, with one scale for each group of columns of a row.

A scale is stored in bfloat16, so q is rounded by the scale as it is stored, and nothing is lost twice. int8 takes the
largest magnitude of the group to 127. Four bits are too few for that: where the extreme goes to -8, the rest is
rounded coarsely; a somewhat smaller scale cuts the extreme and serves the rest. So a few scales are tried, and each
group takes the one with the least squared error.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from glassgpt.native.packing import GROUPS
from glassgpt.quantization.formats import Format

CANDIDATES = tuple(0.70 + 0.40 / 11 * step for step in range(12))
"""What the scale that takes a group's extreme to -8 is multiplied by, for int4."""

_PIECE = 2**20  # elements that are rounded at a time: they stay in the cache of the processor meanwhile


def quantize_matrix(matrix: Tensor, kind: Format) -> tuple[Tensor, Tensor]:
    """matrix (N, K) -> q (N, K') int8 and scales (N, K' / G) bfloat16; K' is K up to a multiple of the group G.

    The columns that were added are 0, and so is the scale of a group of zeros. The weights must be finite.
    """
    rows = max(1, _PIECE // max(1, matrix.shape[1]))
    pieces = [_quantize_rows(piece, kind) for piece in matrix.detach().split(rows)]
    return torch.cat([q for q, _ in pieces]), torch.cat([scales for _, scales in pieces])


def dequantize_matrix(q: Tensor, scales: Tensor, n_columns: int) -> Tensor:
    """The weights (N, n_columns) in fp32 that q (N, K') and scales (N, K' / G) stand for."""
    groups = q.unflatten(1, (scales.shape[1], -1)) * scales.float().unsqueeze(-1)  # (N, K' / G, G)
    return groups.flatten(1)[:, :n_columns]


def _quantize_rows(matrix: Tensor, kind: Format) -> tuple[Tensor, Tensor]:
    group = GROUPS[kind]
    padded = F.pad(matrix.float(), (0, -matrix.shape[1] % group))
    groups = padded.unflatten(1, (-1, group))  # (N, K' / G, G)
    q, scales = (_to_8_bits if kind == "int8" else _to_4_bits)(groups)
    return q.flatten(1).to(torch.int8), scales


def _to_8_bits(groups: Tensor) -> tuple[Tensor, Tensor]:
    """The extreme of each group becomes 127; a scale is rounded up, so that nothing lies beyond."""
    exact = groups.abs().amax(-1) / 127
    scales = exact.bfloat16()
    above = (scales.view(torch.int16) + 1).view(torch.bfloat16)  # the next larger: all are positive
    scales = torch.where(scales.float() < exact, above, scales)
    return _rounded(groups, scales), scales


def _to_4_bits(groups: Tensor) -> tuple[Tensor, Tensor]:
    """Of the candidates, the scale with the least squared error; the first of equals."""
    extreme = groups.gather(-1, groups.abs().argmax(-1, keepdim=True)).squeeze(-1)
    best, least = (extreme / -8).bfloat16(), torch.full_like(extreme, torch.inf)
    for candidate in CANDIDATES:
        scales = (extreme / -8 * candidate).bfloat16()
        restored = _rounded(groups, scales).clamp_(-8, 7).mul_(scales.float().unsqueeze(-1))
        error = restored.sub_(groups).square_().sum(-1)
        best, least = torch.where(error < least, scales, best), torch.minimum(error, least)
    best = best + 0.0  # no -0 for a group of zeros
    return _rounded(groups, best).clamp_(-8, 7), best


def _rounded(groups: Tensor, scales: Tensor) -> Tensor:
    """groups / scales to the nearest whole number, halves to the even one; 0 where the scale is 0."""
    divisors = torch.where(scales == 0, torch.inf, scales.float()).unsqueeze(-1)
    return (groups / divisors).round_()
