"""Weights in panels: what comes back, and how far it is from what went in."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from glassgpt.native.packing import FORMATS, GROUPS, PackedMatrix, pack, packed_shapes, unpack

matrices = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 40), st.integers(1, 140)), elements=st.floats(-100, 100, width=32)
)


def bf16(values):
    """Round to bfloat16, ties to even."""
    bits = np.asarray(values, np.float32).view(np.uint32)
    return (((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16) << 16).astype(np.uint32).view(np.float32)


@settings(deadline=None)
@given(matrices)
def test_fp32_comes_back_as_it_was_and_bf16_rounded(matrix):
    np.testing.assert_array_equal(unpack(pack(matrix, "fp32")), matrix)
    np.testing.assert_array_equal(unpack(pack(matrix, "bf16", threads=2)), bf16(matrix))


@settings(deadline=None)
@given(matrices)
def test_int8_errs_by_half_a_step_of_its_group_at_most(matrix):
    result = unpack(pack(matrix, "int8"))
    for start in range(0, matrix.shape[1], GROUPS["int8"]):
        group = slice(start, start + GROUPS["int8"])
        step = np.abs(matrix[:, group]).max(1, keepdims=True) / 127 * (1 + 2**-7)  # the scale is rounded up to bf16
        error = np.abs(result[:, group] - matrix[:, group])
        assert (error <= step / 2 * (1 + 1e-5) + 1e-37).all()


@settings(deadline=None)
@given(matrices)
def test_int4_takes_the_best_of_its_candidates(matrix):
    """Against every candidate tried with numpy, group by group: none has a smaller squared error."""
    result = unpack(pack(matrix, "int4"))
    factors = np.float32(0.70) + np.float32(0.40) / np.float32(11) * np.arange(12, dtype=np.float32)
    for row, out in zip(matrix, result):
        for start in range(0, len(row), GROUPS["int4"]):
            w, got = row[start : start + GROUPS["int4"]], out[start : start + GROUPS["int4"]]
            top = w[np.abs(w).argmax()]
            scales = bf16(top / np.float32(-8) * factors)
            scales = scales[scales != 0]
            if not len(scales):
                assert not got.any()
                continue
            q = np.clip(np.round(w[None] / scales[:, None]), -8, 7)
            errors = ((w[None] - q * scales[:, None]).astype(np.float64) ** 2).sum(1)
            assert ((got - w).astype(np.float64) ** 2).sum() <= errors.min() * (1 + 1e-3) + 1e-30


@pytest.mark.parametrize("form", FORMATS)
def test_strides_kinds_and_threads_do_not_matter(form, tier):
    matrix = np.random.default_rng(0).normal(size=(50, 70)).astype(np.float16)
    as_floats = matrix.astype(np.float32)
    bits = (bf16(as_floats).view(np.uint32) >> 16).astype(np.uint16)
    expected = pack(as_floats, form)
    for other in (
        pack(matrix, form), pack(np.asfortranarray(as_floats), form, threads=3),
        pack(np.repeat(as_floats, 2, axis=1)[:, ::2], form),
    ):  # fmt: skip
        np.testing.assert_array_equal(other.values, expected.values)
        assert other.scales is expected.scales is None or np.array_equal(other.scales, expected.scales)
    np.testing.assert_array_equal(pack(bits, form).values, pack(bf16(as_floats), form).values)


def test_every_float16_is_read_as_numpy_reads_it():
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16).reshape(256, 256)
    np.testing.assert_array_equal(unpack(pack(halves, "fp32")), halves.astype(np.float32))


def test_a_matrix_of_zeros_has_scales_of_zero():
    for form in ("int8", "int4"):
        packed = pack(np.zeros((17, 65), np.float32), form)
        assert packed.scales is not None
        assert not packed.scales.any()
        assert not unpack(packed).any()


def test_arrays_that_are_no_packed_matrix_are_refused():
    values, scales = packed_shapes("int8", 17, 65)
    good = np.zeros(values, np.uint8), np.zeros(scales, np.uint16)
    PackedMatrix("int8", 17, 65, *good)
    for wrong in [
        (good[0][:1], good[1]), (good[0].astype(np.int8), good[1]), (good[0], None), (good[0], good[1][:, :1]),
        (np.asfortranarray(good[0]), good[1]),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=r"int8 values|one piece"):
            PackedMatrix("int8", 17, 65, *wrong)
