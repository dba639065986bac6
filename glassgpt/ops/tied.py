"""One matrix as token embedding and as output head: one gradient instead of the sum of two.

PyTorch makes a matrix of zeros for the embedding's gradient, writes the rows of the batch into it, and adds it to the
head's. With 50,257 tokens that is three passes over 154 MB and as much memory, for 1,024 rows. Here the rows are
added to the head's gradient where it lies.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class TiedWeight(TorchFunctionMode):
    """Inside this block, the first look-up of rows of `weight` leaves in `head` what to use as the output head."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = self.head = weight

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.embedding and args[1] is self.weight is self.head:  # F.embedding hands on its options by name
            usual = kwargs.get("padding_idx") is None and kwargs.get("max_norm") is None
            if usual and not kwargs.get("scale_grad_by_freq") and not kwargs.get("sparse"):
                rows, self.head = _RowsAndWhole.apply(args[1], args[0])
                return rows
        return func(*args, **kwargs)


class _RowsAndWhole(torch.autograd.Function):
    """weight (V, C), ids (...) -> the rows of the ids (..., C), and the weight itself."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:  # pyrefly: ignore[bad-override]
        ctx.save_for_backward(ids)
        return weight[ids], weight.view_as(weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        of_rows, of_whole = gradients
        (ids,) = ctx.saved_tensors
        # In place: the chunked loss has made it for this and keeps no hold of it.
        return of_whole.contiguous().index_add_(0, ids.flatten(), of_rows.flatten(0, -2)), None
