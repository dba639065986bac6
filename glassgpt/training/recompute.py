"""Activation checkpointing (Chen et al. 2016): keep what enters a block, and compute the rest again when it is needed.

The backward pass of a block then begins with its forward pass. Of all that the blocks keep for it, one block's share
is there at a time. (`torch.utils.checkpoint` does the same and imports PyTorch's compiler: 1.7 s and 60 MB.)
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from glassgpt.model import GPTModel

Kernels = Callable[[torch.device], AbstractContextManager[object]]
"""What a model's arithmetic runs in on a device."""


def recompute_blocks(model: GPTModel, kernels: Kernels) -> None:
    """Let every block of `model` compute its activations twice, with the same bits.

    The second time happens outside of what the first was in, so it is put `kernels` around it, and dropout starts from
    the same random state. Without gradients, or with a cache, a block computes as ever.
    """
    for block in model.blocks:
        block.forward = _twice(block.forward, kernels)


def _twice(forward: Callable[..., Tensor], kernels: Kernels) -> Callable[..., Tensor]:
    def run(x: Tensor, cache: Any = None) -> Tensor:
        once = cache is not None or not torch.is_grad_enabled()
        return forward(x, cache) if once else _Twice.apply(x, forward, kernels)

    return run


class _Twice(torch.autograd.Function):
    """The parameters inside get their gradients from a backward pass within the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, forward: Callable[[Tensor], Tensor], kernels: Kernels) -> Tensor:  # pyrefly: ignore
        ctx.save_for_backward(x)
        ctx.again, ctx.kernels = forward, kernels
        ctx.random = [source.get_rng_state() for source in _random_sources(x.device)]
        return forward(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None]:
        (kept,) = ctx.saved_tensors
        sources = _random_sources(kept.device)
        now = [source.get_rng_state() for source in sources]
        _set(sources, ctx.random)
        x = kept.detach().requires_grad_(kept.requires_grad)
        with torch.enable_grad(), ctx.kernels(x.device):
            output = ctx.again(x)
        _set(sources, now)
        torch.autograd.backward(output, gradients)
        return x.grad, None, None


def _random_sources(device: torch.device) -> list[ModuleType]:
    """Whose random numbers a block on `device` may draw: the CPU's, and the device's own."""
    return [torch] if device.type == "cpu" else [torch, getattr(torch, device.type)]


def _set(sources: list[ModuleType], states: list[Tensor]) -> None:
    for source, state in zip(sources, states, strict=True):
        source.set_rng_state(state)
