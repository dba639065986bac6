"""Panels hold the numbers where the formulas of their page say, and give them back."""

import numpy as np
import pytest

from glassgpt.quantization.formats import GROUP, Format
from glassgpt.quantization.panels import from_panels, packed_shapes, to_panels

SHAPES = [(1, 1), (16, 64), (17, 65), (40, 200), (5, 32)]


def some_numbers(n_rows: int, n_columns: int, kind: Format) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    padded = -(-n_columns // GROUP[kind]) * GROUP[kind]
    low, high = (-127, 128) if kind == "int8" else (-8, 8)
    q = generator.integers(low, high, (n_rows, padded)).astype(np.int8)
    return q, generator.integers(0, 2**16, (n_rows, padded // GROUP[kind])).astype(np.uint16)


@pytest.mark.parametrize("kind", ["int8", "int4"])
@pytest.mark.parametrize(("n_rows", "n_columns"), SHAPES)
def test_each_number_lies_where_the_formula_says(kind: Format, n_rows: int, n_columns: int) -> None:
    q, scales = some_numbers(n_rows, n_columns, kind)
    values, packed_scales = to_panels(q, scales, kind)
    assert (values.shape, packed_scales.shape) == packed_shapes(n_rows, n_columns, kind)
    for p, j, i, c in np.ndindex(values.shape):
        inside, row = 16 * p + i < n_rows, 16 * p + i
        if kind == "int8":
            assert values[p, j, i, c] == (int(q[row, 4 * j + c]) if inside else 0) + 128
        else:
            assert values[p, j, i, c] & 15 == (q[row, 8 * j + c] if inside else 0) + 8
            assert values[p, j, i, c] >> 4 == (q[row, 8 * j + 4 + c] if inside else 0) + 8
    for p, g, i in np.ndindex(packed_scales.shape):
        assert packed_scales[p, g, i] == (scales[16 * p + i, g] if 16 * p + i < n_rows else 0)


@pytest.mark.parametrize("kind", ["int8", "int4"])
@pytest.mark.parametrize(("n_rows", "n_columns"), SHAPES)
def test_panels_give_back_what_was_laid_into_them(kind: Format, n_rows: int, n_columns: int) -> None:
    q, scales = some_numbers(n_rows, n_columns, kind)
    again = from_panels(*to_panels(q, scales, kind), kind, n_rows)
    assert np.array_equal(again[0], q)
    assert np.array_equal(again[1], scales)
