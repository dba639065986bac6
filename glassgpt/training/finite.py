"""Looking for numbers that are none: a NaN or an infinity in a tensor."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor


@torch.no_grad()
def first_not_finite(named: Iterable[tuple[str, Tensor]]) -> str | None:
    """The name of the first tensor with a NaN or an infinity in it.

    A NaN comes out as the least and as the largest of all numbers, so nothing of a tensor's size is allocated.
    """
    for name, tensor in named:
        counts = tensor.is_floating_point() and tensor.numel()
        if counts and not all(map(math.isfinite, torch.stack(tensor.aminmax()).tolist())):
            return name
    return None
