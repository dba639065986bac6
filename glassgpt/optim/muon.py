"""Muon (Jordan et al. 2024): momentum whose singular values are all made alike.

The gradient of a matrix is dominated by a few directions. Muon replaces the momentum U S V^T by U V^T, so that the
rare directions move as far as the frequent ones; each step has the same size whatever the gradient's. It is meant
for the matrices inside the blocks; embeddings, the head, norms and biases are AdamW's.

Parameters of equal shape are kept as one stack, so a step is a few products of stacks.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from glassgpt.config import OptimConfig
from glassgpt.optim.orthogonal import Workspace, newton_schulz_coefficients, orthogonalise

_ROW_BETA = 0.95
"""Decay of the second moments of rows (Li et al. 2025)."""

_BATCH_NUMBERS = 2**22
"""Matrices are worked on together up to this many numbers; more would only need more memory."""


@dataclass(frozen=True)
class _Stack:
    """Parameters of one shape (r, c) that are updated together, and their state."""

    names: list[str]
    parameters: list[Tensor]
    momentum: Tensor
    """(n, r, c): moving average of the gradients."""
    row_squares: Tensor | None
    """(n, r, 1): moving average of the mean square of each row of the update, where rows are normalised."""
    direction: Tensor
    """(n, r, c) memory for this step's gradient, then for the update; all stacks share it."""
    directions: list[Tensor]
    """The same, matrix by matrix."""
    workspace: Workspace
    """Also shared."""


class Muon:
    """Muon with Nesterov momentum and decoupled weight decay, for matrices only.

    W <- W - rate * (sqrt(max(1, r / c)) O + weight_decay W), where O is the orthogonalised momentum of W (r, c) and
    the factor gives an update the same effect on outputs whatever the shape. Of two optional changes, one divides
    each row of O by its usual size and rescales O to the norm it had (NorMuon, Li et al. 2025), the other decays a
    weight only while the update draws it towards 0 too (Chen et al. 2025).
    """

    def __init__(self, named: Mapping[str, nn.Parameter], config: OptimConfig) -> None:
        self.parameters = list(named.values())
        self.config = config
        self.coefficients = newton_schulz_coefficients(config.muon_coefficients, config.muon_iterations)
        self.stacks = _stacks(named, config)

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Update the parameters; their gradients stay as they are. One without a gradient counts as having zeros.

        `learning_rate` is AdamW's at this step; Muon's is in the proportion of the two in the settings.
        """
        rate = learning_rate * self.config.muon_learning_rate / self.config.learning_rate
        for stack in self.stacks:
            self._orthogonal_momentum(stack)
            if stack.row_squares is not None:
                _normalise_rows(stack.direction, stack.row_squares)
            self._update(stack, rate)

    def _orthogonal_momentum(self, stack: _Stack) -> None:
        """Take in the gradients and leave the update in `stack.direction`."""
        beta, direction = self.config.muon_momentum, stack.direction
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in stack.parameters]
        torch.stack(gradients, out=direction)
        stack.momentum.lerp_(direction, 1 - beta)
        direction.lerp_(stack.momentum, beta)  # Nesterov: where the momentum will be after one more such gradient
        stack.workspace.x.copy_(direction)
        direction.copy_(orthogonalise(stack.workspace, self.coefficients))

    def _update(self, stack: _Stack, rate: float) -> None:
        decay = rate * self.config.weight_decay
        rows, columns = stack.direction.shape[1:]
        if self.config.muon_cautious_decay:
            for parameter, direction in zip(stack.parameters, stack.directions, strict=True):
                parameter.sub_(parameter * (parameter * direction > 0), alpha=decay)
        else:
            torch._foreach_mul_(stack.parameters, 1 - decay)
        torch._foreach_add_(stack.parameters, stack.directions, alpha=-rate * max(1.0, rows / columns) ** 0.5)

    def tensors(self) -> dict[str, Tensor]:
        """The state of each parameter, as views of the stacks."""
        named: dict[str, Tensor] = {}
        for stack in self.stacks:
            for index, name in enumerate(stack.names):
                named[f"{name}/momentum"] = stack.momentum[index]
                if stack.row_squares is not None:
                    named[f"{name}/row_squares"] = stack.row_squares[index]
        return named

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy the values into the stacks."""
        for name, own in self.tensors().items():
            own.copy_(tensors[name])

    def reset(self) -> None:
        """Go back to the state before the first step."""
        for own in self.tensors().values():
            own.zero_()


def _stacks(named: Mapping[str, nn.Parameter], config: OptimConfig) -> list[_Stack]:
    by_shape: dict[torch.Size, list[str]] = {}
    for name, parameter in named.items():
        by_shape.setdefault(parameter.shape, []).append(name)
    groups: list[list[str]] = []
    for shape, names in by_shape.items():
        together = max(1, _BATCH_NUMBERS // shape.numel())
        groups += [names[start : start + together] for start in range(0, len(names), together)]

    if not groups:
        return []
    first = next(iter(named.values()))
    shapes: list[tuple[int, int, int]] = []
    for group in groups:
        r, c = named[group[0]].shape
        shapes.append((len(group), r, c))
    dtype = torch.bfloat16 if config.muon_dtype == "bf16" else torch.float32
    products = torch.empty(max(map(Workspace.numel, shapes)), dtype=dtype, device=first.device)
    direction = torch.empty(max(n * r * c for n, r, c in shapes), dtype=first.dtype, device=first.device)
    stacks = []
    for names, (n, r, c) in zip(groups, shapes, strict=True):
        own = direction[: n * r * c].view(n, r, c)
        stacks.append(
            _Stack(
                names=names,
                parameters=[named[name] for name in names],
                momentum=torch.zeros_like(own),
                row_squares=torch.zeros_like(own[:, :, :1]) if config.muon_normalise_rows else None,
                direction=own,
                directions=list(own),
                workspace=Workspace.within(products, (n, r, c)),
            )
        )
    return stacks


def _normalise_rows(directions: Tensor, row_squares: Tensor) -> None:
    """Divide each row of (n, r, c) by the root of the running mean of its squares, and keep each matrix's norm."""
    squares = directions.square().mean(dim=2, keepdim=True)  # (n, r, 1)
    row_squares.lerp_(squares, 1 - _ROW_BETA)
    scales = row_squares.add(1e-10).rsqrt_()
    before, after = squares.sum(dim=1, keepdim=True), (squares * scales.square()).sum(dim=1, keepdim=True)
    directions.mul_(scales.mul_((before / (after + 1e-10)).sqrt_()))
