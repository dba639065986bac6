"""Matrices in 8 and 4 bits are as near to the original as their format allows."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from glassgpt.native.packing import GROUPS
from glassgpt.quantization.formats import FORMATS, Format
from glassgpt.quantization.rounding import CANDIDATES, dequantize_matrix, quantize_matrix


def some_matrix(n_rows: int, n_columns: int, seed: int = 0) -> Tensor:
    return torch.randn(n_rows, n_columns, generator=torch.Generator().manual_seed(seed))


def plain(group: np.ndarray, kind: Format) -> tuple[np.ndarray, float]:
    """One group, as the page of the format has it, without any care for speed."""
    extreme = group[np.abs(group).argmax()]
    if extreme == 0:
        return np.zeros_like(group), 0.0
    if kind == "int8":
        exact = np.float32(abs(extreme)) / np.float32(127)
        scale = bfloat16(float(exact))
        while scale < exact:
            scale = next_bfloat16(scale)
        return np.round(group / np.float32(scale)), scale
    scales = [bfloat16(float(np.float32(extreme) / np.float32(-8) * np.float32(factor))) for factor in CANDIDATES]
    choices = [(np.clip(np.round(group / np.float32(scale)), -8, 7), scale) for scale in scales]
    return min(choices, key=lambda choice: float(((choice[0] * choice[1] - group) ** 2).sum()))


def bfloat16(value: float) -> float:
    return torch.tensor(value).bfloat16().item()


def next_bfloat16(value: float) -> float:
    return (torch.tensor(value).bfloat16().view(torch.int16) + 1).view(torch.bfloat16).item()


@pytest.mark.parametrize("kind", FORMATS)
def test_each_group_is_rounded_as_the_plain_version_rounds_it(kind: Format) -> None:
    group = GROUPS[kind]
    matrix = some_matrix(7, 3 * group)
    q, scales = quantize_matrix(matrix, kind)
    for row in range(7):
        for g in range(3):
            columns = slice(g * group, (g + 1) * group)
            expected, scale = plain(matrix[row, columns].numpy(), kind)
            assert scales[row, g].item() == scale
            assert q[row, columns].tolist() == expected.tolist()


@pytest.mark.parametrize("n_columns", [1, 31, 32, 64, 65, 200])
@pytest.mark.parametrize("kind", FORMATS)
def test_columns_up_to_a_whole_group_are_filled_with_zeros(kind: Format, n_columns: int) -> None:
    q, scales = quantize_matrix(some_matrix(5, n_columns), kind)
    padded = math.ceil(n_columns / GROUPS[kind]) * GROUPS[kind]
    assert q.shape == (5, padded)
    assert scales.shape == (5, padded // GROUPS[kind])
    assert not q[:, n_columns:].any()
    assert dequantize_matrix(q, scales, n_columns).shape == (5, n_columns)


def test_int8_is_off_by_at_most_half_a_step_and_clips_nothing() -> None:
    matrix = some_matrix(64, 640)
    q, scales = quantize_matrix(matrix, "int8")
    off = (dequantize_matrix(q, scales, 640) - matrix).abs().unflatten(1, (-1, GROUPS["int8"]))
    assert bool((off <= 0.5001 * scales.float().unsqueeze(-1)).all())
    assert int(q.abs().max()) == 127


def test_int4_is_nearer_than_with_the_scale_that_keeps_the_extreme() -> None:
    matrix = some_matrix(64, 640)
    q, scales = quantize_matrix(matrix, "int4")
    error = (dequantize_matrix(q, scales, 640) - matrix).square().mean()
    groups = matrix.unflatten(1, (-1, GROUPS["int4"]))
    extreme = groups.gather(-1, groups.abs().argmax(-1, keepdim=True))
    keeping = (groups / (extreme / -8)).round().clamp(-8, 7) * (extreme / -8)
    assert error < 0.92 * (keeping - groups).square().mean()


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, 1e-15, 1e-44, -3e38])
def test_extreme_values_give_finite_weights(kind: Format, value: float) -> None:
    matrix = torch.full((2, 64), value)
    q, scales = quantize_matrix(matrix, kind)
    weights = dequantize_matrix(q, scales, 64)
    assert bool(weights.isfinite().all())
    if value == 0:
        assert not q.any()
        assert not scales.view(torch.int16).any(), "no minus zero either"
    elif abs(value) > 1e-38:
        torch.testing.assert_close(weights, matrix, rtol=0.08, atol=0)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_large_matrix_in_pieces_is_the_same_as_its_rows_alone(kind: Format, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = some_matrix(40, 96)
    whole = quantize_matrix(matrix, kind)
    monkeypatch.setattr("glassgpt.quantization.rounding._PIECE", 7 * 96)
    pieces = quantize_matrix(matrix, kind)
    assert all(torch.equal(a, b) for a, b in zip(whole, pieces, strict=True))


def test_a_view_of_a_transposed_matrix_and_half_precision_are_taken() -> None:
    matrix = some_matrix(64, 32).bfloat16()
    assert torch.equal(quantize_matrix(matrix.T, "int4")[0], quantize_matrix(matrix.T.float().contiguous(), "int4")[0])
