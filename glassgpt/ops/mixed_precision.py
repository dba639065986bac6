"""Training in bf16 on the CPU: products of 16-bit numbers, summed in fp32, between weights that stay fp32.

A processor with bf16 instructions multiplies such numbers about twice as fast as fp32 and keeps half the bytes for
the backward pass. The residual stream, the norms' arithmetic, the loss and every weight and its gradient stay fp32
(Micikevicius et al. 2018). A weight is rounded where it is used, forward and backward, because a copy of all of them
would have to be kept through the step and rounding is 2 % of its time.

The model is left as it is: inside `with MixedPrecision():` three of its calls run other kernels, and PyTorch's own
autocast looks after the rest.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from glassgpt.ops.attention import bf16_attention


class MixedPrecision(TorchFunctionMode):
    """Inside this block, linear layers, norms and causal attention on the CPU give bf16."""

    def __init__(self) -> None:
        super().__init__()
        self.autocast = torch.autocast("cpu", torch.bfloat16)

    def __enter__(self) -> "MixedPrecision":
        self.autocast.__enter__()
        return super().__enter__()

    def __exit__(self, exc_type: Any, exc_val: Any, exc_tb: Any) -> None:
        error = (exc_type, exc_val, exc_tb)
        super().__exit__(*error)
        self.autocast.__exit__(*error)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.linear and not kwargs:
            return _Product.apply(*(*args, None)[:3])
        if func is F.scaled_dot_product_attention and kwargs.get("is_causal") and not kwargs.get("dropout_p"):
            return bf16_attention(*args[:3])
        if func in (F.layer_norm, F.rms_norm):
            return func(args[0].float(), *args[1:], **kwargs).to(torch.bfloat16)
        return func(*args, **kwargs)


class _Product(torch.autograd.Function):
    """y = x W^T + b in bf16."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # pyrefly: ignore[bad-override]
        x = x.to(torch.bfloat16)
        ctx.save_for_backward(x, weight)
        return F.linear(x, weight.to(torch.bfloat16), None if bias is None else bias.to(torch.bfloat16))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients  # (..., out)
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        rows = gradient.flatten(0, -2)  # (N, out)
        return (
            gradient @ weight.to(torch.bfloat16) if needs_x else None,
            (rows.T @ x.flatten(0, -2)).float() if needs_weight else None,
            rows.sum(0, dtype=torch.float32) if needs_bias else None,
        )
