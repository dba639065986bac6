from typing import Literal

import pytest
import torch
from torch import Tensor

from glassgpt.optim.orthogonal import Workspace, newton_schulz_coefficients, orthogonalise

SHAPES = [(3, 16, 16), (2, 12, 40), (2, 40, 12), (1, 1, 7)]


def orthogonal(stack: Tensor, kind: Literal["jordan", "polar-express"] = "jordan", n_iterations: int = 5) -> Tensor:
    n, r, c = stack.shape
    memory = torch.full((Workspace.numel((n, r, c)),), float("nan"), dtype=stack.dtype)
    space = Workspace.within(memory, (n, r, c))
    space.x.copy_(stack)
    return orthogonalise(space, newton_schulz_coefficients(kind, n_iterations)).clone()


def a_stack(shape: tuple[int, int, int], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", SHAPES)
def test_polar_express_with_iterations_enough_gives_the_factor_of_the_svd(shape: tuple[int, int, int]) -> None:
    stack = a_stack(shape)
    left, _, right = torch.linalg.svd(stack, full_matrices=False)
    assert torch.allclose(orthogonal(stack, "polar-express", 9), left @ right, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["jordan", "polar-express"])
def test_five_iterations_bring_every_singular_value_near_1(
    kind: Literal["jordan", "polar-express"], dtype: torch.dtype
) -> None:
    """From a hundredth of the largest on, at widths where bf16's rounding adds up; the directions stay."""
    left, _, right = torch.linalg.svd(a_stack((2, 64, 160)), full_matrices=False)
    spread = torch.logspace(-2, 0, 64)
    stack = 1e-3 * (left * spread) @ right  # as small as gradients are
    found = orthogonal(stack.to(dtype), kind).float()
    values = (left.mT @ found @ right.mT).diagonal(dim1=1, dim2=2)
    assert values.min() > 0.65
    assert values.max() < 1.25


@pytest.mark.parametrize("shape", SHAPES)
def test_a_stack_is_its_matrices_one_by_one_and_a_tall_matrix_a_wide_one_turned(shape: tuple[int, int, int]) -> None:
    stack = a_stack(shape)
    together = orthogonal(stack)
    for matrix, found in zip(stack, together, strict=True):
        assert torch.allclose(orthogonal(matrix[None])[0], found, atol=1e-5)
        assert torch.allclose(orthogonal(matrix.T[None])[0].T, found, atol=1e-4)


def test_zeros_stay_zeros() -> None:
    assert torch.equal(orthogonal(torch.zeros(2, 3, 5)), torch.zeros(2, 3, 5))


def test_each_polynomial_of_polar_express_improves_on_those_before_it() -> None:
    values = torch.logspace(-3, 0, 2000, dtype=torch.float64)
    worst = []
    for a, b, c in newton_schulz_coefficients("polar-express", 9):
        values = a * values + b * values**3 + c * values**5
        worst.append(float((values - 1).abs().max()))
    assert worst == sorted(worst, reverse=True)
    assert worst[4] < 0.16
    assert worst[-1] < 1e-6
