"""Cross entropy of next-token prediction without holding the logits.

With 50,257 tokens in the vocabulary the logits are the largest tensor of training: 1,024 positions need 206 MB,
and their gradient as much again. The chunked loss computes them a few rows at a time and, while a chunk is still
there, also its share of the gradients, so that no chunk is computed twice and none is kept.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORED = -100
"""A target that does not count, as in `torch.nn.functional.cross_entropy`."""


def plain_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Mean nats per target: hidden (N, C), weight of the output head (V, C), targets (N,) int64 -> ()."""
    return F.cross_entropy((hidden @ weight.T).float(), targets, ignore_index=IGNORED)


def chunked_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor, chunk_rows: int = 0) -> Tensor:
    """The same value and gradients as `plain_cross_entropy`, holding `chunk_rows` rows of logits at a time.

    Where every target is ignored it is 0 (the plain one is 0/0).
    chunk_rows 0 chooses: as many rows as fit 32 MiB of fp32 logits, at least 16.
    """
    rows = chunk_rows or max(16, 2**23 // weight.shape[0])
    if not torch.is_grad_enabled():
        hidden, weight = hidden.detach(), weight.detach()  # or autograd would still ask for their gradients
    return _ChunkedCrossEntropy.apply(hidden, weight, targets, rows)


class _ChunkedCrossEntropy(torch.autograd.Function):
    """d loss / d logits = (softmax - one hot) / number of targets; the two gradients are GEMMs with it."""

    @staticmethod
    def forward(  # pyrefly: ignore[bad-override]
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, rows: int
    ) -> Tensor:
        needs_hidden, needs_weight = ctx.needs_input_grad[:2]
        n_targets = (targets != IGNORED).sum().clamp(min=1)
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        hidden_gradient = torch.empty_like(hidden) if needs_hidden else None
        weight_gradient = torch.zeros_like(weight) if needs_weight else None
        matrix = weight.to(hidden.dtype)  # (V, C)
        for start in range(0, len(hidden), rows):
            chunk, wanted = hidden[start : start + rows], targets[start : start + rows]
            log_probabilities = (chunk @ matrix.T).float().log_softmax(dim=-1)  # (rows, V)
            counted = wanted != IGNORED
            index = wanted.clamp(min=0).unsqueeze(1)  # (rows, 1)
            total -= log_probabilities.gather(1, index).squeeze(1).mul(counted).sum()
            if not (needs_hidden or needs_weight):
                continue
            gradient = log_probabilities.exp_()
            gradient.scatter_add_(1, index, torch.full_like(index, -1, dtype=gradient.dtype))
            gradient.mul_((counted / n_targets).unsqueeze(1))
            gradient = gradient.to(hidden.dtype)
            if hidden_gradient is not None:
                torch.mm(gradient, matrix, out=hidden_gradient[start : start + rows])
            if weight_gradient is not None:
                if weight.dtype == hidden.dtype:
                    weight_gradient.addmm_(gradient.T, chunk)
                else:
                    weight_gradient += gradient.T @ chunk
        ctx.save_for_backward(hidden_gradient, weight_gradient)
        return total / n_targets

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:  # pyrefly: ignore
        (gradient,) = gradients
        hidden_gradient, weight_gradient = ctx.saved_tensors
        # In place: the gradients are this call's own and are handed on. A training loss has gradient 1 or 1 / parts.
        scale = [None if g is None else g.mul_(gradient) for g in (hidden_gradient, weight_gradient)]
        return scale[0], scale[1], None, None
