"""A faster `F.linear` for the CPU while no gradients are needed.

PyTorch hands fp32 matrix products on the CPU to MKL, which reads a weight for a single token with one
thread (and on AMD leaves AVX-512 unused). oneDNN comes in the same build and uses all threads: on two cores
of an AMD EPYC it read GPT-2's weights at 27 to 39 GB/s instead of 16 to 22. One token needs every weight
once, so that is the speed of writing.

The model is left as it is: inside `with OneDnnLinear():` its calls of `F.linear` run the other kernel.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class OneDnnLinear(TorchFunctionMode):
    """Inside this block, products of plain fp32 tensors on the CPU run in oneDNN, where this build has it."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.linear and not kwargs and suits_onednn(args[0], args[1]):
            bias = args[2] if len(args) > 2 else None
            return torch.ops.mkldnn._linear_pointwise(args[0], args[1], bias, "none", [], "")
        return func(*args, **(kwargs or {}))


def suits_onednn(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN can compute x @ weight.T here. It has no gradient of its own."""
    return (
        x.device.type == weight.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.ndim > 1
        and not torch.is_grad_enabled()
        and torch.backends.mkldnn.is_available()
    )
