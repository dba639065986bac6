import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from glassgpt.ops.dropout import (
    MODULUS,
    MULTIPLIER,
    PortableDropout,
    congruential_stream,
    per_element_dropout,
    portable_dropout,
)


def stream_by_loop(start: int, n: int) -> list[int]:
    x, numbers = start % MODULUS or 1, []
    for _ in range(n):
        numbers.append(x)
        x = MULTIPLIER * x % MODULUS
    return numbers


@settings(max_examples=50, deadline=None)
@given(start=st.integers(0, 2**32 - 1), n=st.integers(0, 300))
def test_the_stream_equals_the_loop(start: int, n: int) -> None:
    assert congruential_stream(start, n).tolist() == stream_by_loop(start, n)


@pytest.mark.parametrize("start", [0, 1, MODULUS - 1, MODULUS, MODULUS + 1, 2**32 - 1])
def test_the_stream_starts_well_at_the_ends_of_its_range(start: int) -> None:
    assert congruential_stream(start, 5).tolist() == stream_by_loop(start, 5)


def test_elements_are_kept_in_memory_order_and_scaled() -> None:
    torch.manual_seed(7)
    raw = torch.empty(1, dtype=torch.int64).random_(-(2**63), None).item() >> 32 & 0xFFFFFFFF
    kept = [x / MODULUS < 1 - 0.3 for x in stream_by_loop(raw, 24)]
    torch.manual_seed(7)
    dropped = portable_dropout(torch.arange(1.0, 25).view(2, 3, 4), 0.3)
    expected = [i / 0.7 if keep else 0.0 for i, keep in enumerate(kept, start=1)]
    torch.testing.assert_close(dropped.flatten(), torch.tensor(expected))


@pytest.mark.parametrize("n_elements", [1, 7, 1000])
def test_one_call_takes_one_draw_from_the_generator_whatever_its_size(n_elements: int) -> None:
    torch.manual_seed(7)
    torch.empty(1, dtype=torch.int32).random_()
    expected = torch.rand(5)
    torch.manual_seed(7)
    portable_dropout(torch.ones(n_elements), 0.5)
    assert torch.equal(torch.rand(5), expected)


def test_two_calls_draw_different_masks() -> None:
    torch.manual_seed(7)
    assert not torch.equal(portable_dropout(torch.ones(64), 0.5), portable_dropout(torch.ones(64), 0.5))


@pytest.mark.parametrize("dropout", [portable_dropout, per_element_dropout])
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_share_of_zeros_is_the_rate_and_the_mean_stays(dropout, rate: float) -> None:
    torch.manual_seed(0)
    dropped = dropout(torch.ones(200_000), rate)
    assert (dropped == 0).double().mean().item() == pytest.approx(rate, abs=0.005)
    assert dropped.double().mean().item() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_type_and_gradient_follow_the_input(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.ones(8, 8, dtype=dtype, requires_grad=True)
    dropped = portable_dropout(x, 0.5)
    dropped.sum().backward()
    assert dropped.dtype == dtype
    assert torch.equal(x.grad, dropped.detach())


def test_the_variant_per_element_draws_one_uniform_for_each() -> None:
    torch.manual_seed(0)
    kept = torch.rand(100, dtype=torch.float64) < 0.75
    torch.manual_seed(0)
    dropped = per_element_dropout(torch.ones(100), 0.25)
    assert torch.equal(dropped > 0, kept)


def test_this_build_of_pytorch_draws_one_of_the_two_documented_variants() -> None:
    masks = []
    for dropout in (lambda x: nn.functional.dropout(x, 0.5), *(lambda x, d=d: d(x, 0.5) for d in VARIANTS)):
        torch.manual_seed(123)
        masks.append(dropout(torch.ones(1000)))
    assert any(torch.equal(masks[0], mask) for mask in masks[1:])


VARIANTS = (portable_dropout, per_element_dropout)


def test_the_layer_drops_in_training_only_and_at_rate_0_draws_nothing() -> None:
    x = torch.ones(100)
    state = torch.get_rng_state()
    assert torch.equal(PortableDropout(0.5).eval()(x), x)
    assert torch.equal(PortableDropout(0.0)(x), x)
    assert torch.equal(torch.get_rng_state(), state)
    assert (PortableDropout(0.5)(x) == 0).any()
