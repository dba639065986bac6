"""Panels made without native code hold what the formulas of `native.packing` say, and what the native code makes."""

import numpy as np
import pytest
import torch

from glassgpt.native.compiled import library
from glassgpt.native.packing import PANEL, pack, unpack
from glassgpt.quantization.formats import FORMATS, Format
from glassgpt.quantization.panels import packed, packed_plainly, rounded
from glassgpt.quantization.rounding import dequantize_matrix, quantize_matrix

SHAPES = [(1, 1), (16, 64), (17, 65), (40, 200), (5, 32)]


def some_matrix(n_rows: int, n_columns: int) -> torch.Tensor:
    return torch.randn(n_rows, n_columns, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("shape", SHAPES)
def test_each_number_lies_where_the_formula_says(kind: Format, shape: tuple[int, int]) -> None:
    matrix = some_matrix(*shape)
    panels = packed_plainly(matrix, kind)
    q, scales = quantize_matrix(matrix, kind)
    filled = np.zeros((len(panels.values) * PANEL, q.shape[1]), int)
    filled[: len(q)] = q.numpy()
    for p, j, i, c in np.ndindex(panels.values.shape):
        byte = int(panels.values[p, j, i, c])
        if kind == "int8":
            assert byte == filled[16 * p + i, 4 * j + c] + 128
        else:
            assert byte & 15 == filled[16 * p + i, 8 * j + c] + 8
            assert byte >> 4 == filled[16 * p + i, 8 * j + 4 + c] + 8
    for p, g, i in np.ndindex(panels.scales.shape):
        row = 16 * p + i
        assert panels.scales[p, g, i] == (scales.view(torch.uint16)[row, g].item() if row < len(q) else 0)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("shape", SHAPES)
def test_panels_give_the_rounded_weights_back(kind: Format, shape: tuple[int, int]) -> None:
    matrix = some_matrix(*shape)
    expected = dequantize_matrix(*quantize_matrix(matrix, kind), shape[1])
    assert np.array_equal(unpack(packed_plainly(matrix, kind)), expected.numpy())


@pytest.mark.skipif(library() is None, reason="the native code was not built")
@pytest.mark.parametrize("shape", [*SHAPES, (48, 4096)])
def test_native_int8_is_the_same_bit_for_bit(shape: tuple[int, int]) -> None:
    matrix = some_matrix(*shape)
    native, plain = pack(matrix.numpy(), "int8"), packed_plainly(matrix, "int8")
    assert np.array_equal(native.values, plain.values)
    assert np.array_equal(native.scales, plain.scales)


@pytest.mark.skipif(library() is None, reason="the native code was not built")
def test_native_int4_differs_only_where_two_scales_are_as_good() -> None:
    matrix = some_matrix(48, 4096)
    native, plain = pack(matrix.numpy(), "int4"), packed_plainly(matrix, "int4")
    same = native.scales == plain.scales
    assert same.mean() > 0.999
    errors = [((unpack(panels) - matrix.numpy()) ** 2).reshape(48, -1, 32).sum(-1) for panels in (native, plain)]
    np.testing.assert_allclose(*errors, rtol=1e-5)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("shape", SHAPES)
def test_rows_rounded_by_the_native_code_are_those_of_its_panels(kind: Format, shape: tuple[int, int]) -> None:
    matrix = some_matrix(*shape)
    q, scales = rounded(matrix, kind)
    plain_q, plain_scales = quantize_matrix(matrix, kind)
    assert (q.shape, q.dtype) == (plain_q.shape, torch.int8)
    assert (scales.shape, scales.dtype) == (plain_scales.shape, torch.bfloat16)
    assert np.array_equal(dequantize_matrix(q, scales, shape[1]).numpy(), unpack(packed(matrix, kind)))


def test_packed_takes_a_parameter_of_any_type() -> None:
    parameter = torch.nn.Parameter(some_matrix(20, 70).bfloat16().T)
    panels = packed(parameter, "int8")
    expected = dequantize_matrix(*quantize_matrix(parameter, "int8"), 20)
    assert np.array_equal(unpack(panels), expected.numpy())
