"""Making matrices orthogonal by matrix products alone, whole stacks of them at once.

The nearest matrix to X = U S V^T with orthonormal rows or columns is U V^T. An odd polynomial p of X,

    p(X) = a X + b (X X^T) X + c (X X^T)^2 X = U (a S + b S^3 + c S^5) V^T,

changes its singular values alone. Repeated with well-chosen a, b, c it drives every one of them towards 1, from
wherever in (0, 1] they start. That is the Newton–Schulz iteration; it needs no decomposition, and low precision is
enough for it.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from glassgpt.ops.batched import add_batched_product, batched_product

Coefficients = tuple[float, float, float]

JORDAN: Coefficients = (3.4445, -4.7750, 2.0315)
"""Jordan et al. 2024: steep at 0, so that small singular values grow fast; large ones end in [0.7, 1.2], not at 1."""

POLAR_EXPRESS: tuple[Coefficients, ...] = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845749518, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
    (1.875, -1.25, 0.375),
)
"""Amsel et al. 2025, for singular values from 1e-3: each step the best there is after those before it."""

_MARGIN = 1.01
"""By how much rounding may carry a singular value above 1 before Polar Express, steeper than Jordan's, minds."""


def newton_schulz_coefficients(kind: Literal["jordan", "polar-express"], n_iterations: int) -> list[Coefficients]:
    """The polynomial of each iteration. Polar Express repeats its last, the classic (15 X - 10 X^3 + 3 X^5) / 8."""
    if kind == "jordan":
        return [JORDAN] * n_iterations
    safe = [(a / _MARGIN, b / _MARGIN**3, c / _MARGIN**5) for a, b, c in POLAR_EXPRESS[:-1]]
    return (safe + [POLAR_EXPRESS[-1]] * n_iterations)[:n_iterations]


@dataclass(frozen=True)
class Workspace:
    """The memory that `orthogonalise` needs for stacks of n matrices of shape (r, c); s is the smaller side."""

    x: Tensor
    """(n, r, c): holds the matrices."""
    other_x: Tensor
    """(n, r, c)"""
    gram: Tensor
    """(n, s, s)"""
    polynomial: Tensor
    """(n, s, s)"""

    @staticmethod
    def numel(shape: tuple[int, int, int]) -> int:
        """How many numbers it has for a stack of this shape."""
        n, r, c = shape
        return n * (2 * r * c + 2 * min(r, c) ** 2)

    @classmethod
    def within(cls, memory: Tensor, shape: tuple[int, int, int]) -> "Workspace":
        """One laid into `memory`, a vector of at least `numel(shape)` numbers."""
        n, r, c = shape
        s = min(r, c)
        shapes = [(n, r, c), (n, r, c), (n, s, s), (n, s, s)]
        sizes = [a * b * d for a, b, d in shapes]
        parts = memory[: sum(sizes)].split(sizes)
        return cls(*(part.view(part_shape) for part, part_shape in zip(parts, shapes, strict=True)))


def orthogonalise(space: Workspace, coefficients: list[Coefficients]) -> Tensor:
    """Every matrix of `space.x` with its singular values brought near 1: one of the tensors of the workspace.

    A matrix of zeros stays one.
    """
    x, other = space.x, space.other_x  # (n, r, c)
    x.div_(torch.linalg.vector_norm(x.flatten(1), dim=1).mul_(_MARGIN).add_(1e-7)[:, None, None])
    wide = x.shape[1] <= x.shape[2]
    for a, b, c in coefficients:
        # X X^T where the rows are fewer, X^T X where the columns are: the same polynomial with less work.
        gram = batched_product(x, x.mT, space.gram) if wide else batched_product(x.mT, x, space.gram)  # (n, s, s)
        polynomial = add_batched_product(gram, gram, gram, beta=b, alpha=c, out=space.polynomial)
        left, right = (polynomial, x) if wide else (x, polynomial)
        add_batched_product(x, left, right, beta=a, alpha=1.0, out=other)
        x, other = other, x
    return x
