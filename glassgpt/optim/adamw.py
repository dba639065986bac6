"""AdamW (Loshchilov & Hutter 2019) in PyTorch's fused kernel: one pass over memory instead of a dozen."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from glassgpt.config import OptimConfig

_MEAN, _SQUARE = "exp_avg", "exp_avg_sq"
"""PyTorch's names of the moving averages of the gradient and of its square."""


class AdamW:
    """The same bits as `torch.optim.AdamW(fused=True)`.

    Matrices and embeddings decay; norms and biases, which have one dimension, do not. All parameters share one
    count of steps; one that has no gradient at a step is left as it is.
    """

    def __init__(self, named: Mapping[str, nn.Parameter], config: OptimConfig) -> None:
        self.names, self.parameters = list(named), list(named.values())
        self.config = config
        self.decays = [config.weight_decay if parameter.dim() >= 2 else 0.0 for parameter in self.parameters]
        device = self.parameters[0].device if self.parameters else "cpu"
        self.n_steps = torch.zeros((), device=device)  # a tensor, as the kernel wants it
        self.means = [torch.zeros_like(parameter, requires_grad=False) for parameter in self.parameters]
        self.squares = [torch.zeros_like(parameter, requires_grad=False) for parameter in self.parameters]

    def reset(self) -> None:
        """Go back to the state before the first step. The moments stay where they lie, or the heap would get holes."""
        for state in (self.n_steps, *self.means, *self.squares):
            state.zero_()

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Update the parameters by their gradients."""
        self.n_steps += 1
        for decay in sorted(set(self.decays)):
            rows = [
                (parameter, parameter.grad, mean, square)
                for parameter, mean, square, own in zip(
                    self.parameters, self.means, self.squares, self.decays, strict=True
                )
                if own == decay and parameter.grad is not None
            ]
            if rows:
                parameters, gradients, means, squares = map(list, zip(*rows, strict=True))
                update = _fused if _has_fused(parameters[0].device) else _plain
                update(parameters, gradients, means, squares, self.n_steps, learning_rate, decay, self.config)

    def tensors(self) -> dict[str, Tensor]:
        """Both moments of each parameter, and the number of steps."""
        means = {f"{name}/{_MEAN}": mean for name, mean in zip(self.names, self.means, strict=True)}
        squares = {f"{name}/{_SQUARE}": square for name, square in zip(self.names, self.squares, strict=True)}
        return means | squares | {"adamw/n_steps": self.n_steps}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over the tensors themselves: a copy would hold the moments twice."""

        def own(name: str, like: Tensor) -> Tensor:
            return tensors[name].to(like.device, like.dtype)

        self.n_steps = own("adamw/n_steps", self.n_steps)
        for n, (name, parameter) in enumerate(zip(self.names, self.parameters, strict=True)):
            self.means[n], self.squares[n] = (own(f"{name}/{key}", parameter) for key in (_MEAN, _SQUARE))


def _has_fused(device: torch.device) -> bool:
    return device.type in ("cpu", "cuda", "mps") and hasattr(torch, "_fused_adamw_")


def _fused(
    parameters: list[Tensor], gradients: list[Tensor], means: list[Tensor], squares: list[Tensor], n_steps: Tensor,
    learning_rate: float, decay: float, config: OptimConfig,
) -> None:  # fmt: skip
    torch._fused_adamw_(
        parameters, gradients, means, squares, [], [n_steps] * len(parameters),
        lr=learning_rate, beta1=config.beta1, beta2=config.beta2, weight_decay=decay, eps=config.eps,
        amsgrad=False, maximize=False, grad_scale=None, found_inf=None,
    )  # fmt: skip


def _plain(
    parameters: list[Tensor], gradients: list[Tensor], means: list[Tensor], squares: list[Tensor], n_steps: Tensor,
    learning_rate: float, decay: float, config: OptimConfig,
) -> None:  # fmt: skip
    """Algorithm 2 of the paper, line by line."""
    mean_correction, square_correction = (1 - beta ** float(n_steps) for beta in (config.beta1, config.beta2))
    for parameter, gradient, mean, square in zip(parameters, gradients, means, squares, strict=True):
        mean.lerp_(gradient, 1 - config.beta1)
        square.mul_(config.beta2).addcmul_(gradient, gradient, value=1 - config.beta2)
        root = (square / square_correction).sqrt_().add_(config.eps)
        parameter.mul_(1 - learning_rate * decay).addcdiv_(mean, root, value=-learning_rate / mean_correction)
