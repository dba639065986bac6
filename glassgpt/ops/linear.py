"""A faster `F.linear` for fp32 on the CPU.

PyTorch hands fp32 matrix products on the CPU to MKL, which on AMD leaves AVX-512 unused and reads the weights for
a single token with one thread. oneDNN comes in the same build. On two cores of an AMD EPYC it multiplies at the
shapes of training at 330 to 430 GFLOP/s instead of about 195, and reads the weights of GPT-2 for one token at 27
to 39 GB/s instead of 16 to 22.

The model is left as it is: inside `with OneDnnLinear():` its calls of `F.linear` run the other kernel.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


def has_onednn() -> bool:
    """Whether this build of PyTorch has oneDNN for this processor."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class OneDnnLinear(TorchFunctionMode):
    """Inside this block, linear layers of plain fp32 tensors on the CPU run in oneDNN, where this build has it."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is not F.linear or kwargs or not _suits(args[0], args[1]):
            return func(*args, **(kwargs or {}))
        x, weight, bias = (*args, None)[:3]
        if torch.is_grad_enabled():
            return _OneDnnProduct.apply(x, weight, bias)
        return _product(x, weight, bias)


class _OneDnnProduct(torch.autograd.Function):
    """y = x W^T + b, whose gradients are products of the same form: dx = g W, dW = g^T x, db = sum of g."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # pyrefly: ignore[bad-override]
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients  # (..., out)
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        rows = gradient.flatten(0, -2)  # (N, out)
        return (
            _product(gradient, weight.T) if needs_x else None,
            _product(rows.T, x.flatten(0, -2).T) if needs_weight else None,
            rows.sum(0) if needs_bias else None,
        )


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (..., in) @ weight (out, in)^T + bias (out,) -> (..., out)."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def _suits(x: Tensor, weight: Tensor) -> bool:
    return (
        x.device.type == weight.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.ndim > 1
        and not torch.is_autocast_enabled("cpu")
        and has_onednn()
    )
