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

CHUNK = 2**24
"""Logits that the chunked loss holds at a time."""

BLOCK = 2**20
"""Logits of a chunk that are worked on at a time on the CPU: 4 MB in fp32, which stay in the cache."""

SLICE = 8192
"""Rows of the head's gradient that are computed at a time."""


def plain_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Mean nats per target: hidden (N, C), weight of the output head (V, C), targets (N,) int64 -> ()."""
    return F.cross_entropy((hidden @ weight.T).float(), targets, ignore_index=IGNORED)


def chunked_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor, chunk_rows: int = 0) -> Tensor:
    """The same value and gradients as `plain_cross_entropy`, holding `chunk_rows` rows of logits at a time.

    Where every target is ignored it is 0 (the plain one is 0/0). The products are calls of `F.linear`, so the kernels
    that a caller has put in its place (`ops.linear`) serve here too.
    chunk_rows 0 chooses: as many rows as fit CHUNK logits, at least 16.
    """
    rows = chunk_rows or max(16, CHUNK // weight.shape[0])
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
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        hidden_gradient = torch.empty_like(hidden) if needs_hidden else None
        weight_gradient = torch.empty_like(weight) if needs_weight else None
        matrix = weight.to(hidden.dtype)  # (V, C)
        share = (targets != IGNORED) / (targets != IGNORED).sum().clamp(min=1)  # (N,), what each target counts
        for start in range(0, len(hidden), rows):
            chunk, wanted = hidden[start : start + rows], targets[start : start + rows]
            counted = share[start : start + rows].unsqueeze(1)  # (rows, 1)
            gradient = F.linear(chunk, matrix)  # (rows, V), logits for now
            total += (_to_gradient(gradient, wanted) * counted).sum()
            if hidden_gradient is not None:
                hidden_gradient[start : start + rows] = F.linear(gradient, matrix.T) * counted
            if weight_gradient is not None:
                _add_product(weight_gradient, gradient, (chunk * counted).to(chunk.dtype), first=start == 0)
        ctx.gradients = hidden_gradient, weight_gradient  # to be handed on: nobody else holds them
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:  # pyrefly: ignore
        (gradient,) = gradients
        (hidden_gradient, weight_gradient), ctx.gradients = ctx.gradients, None
        if gradient.device.type == "cpu" and gradient == 1:
            return hidden_gradient, weight_gradient, None, None
        # In place: the gradients are this call's own and are handed on. A training loss has gradient 1 or 1 / parts.
        scale = [None if g is None else g.mul_(gradient) for g in (hidden_gradient, weight_gradient)]
        return scale[0], scale[1], None, None


def _to_gradient(logits: Tensor, targets: Tensor) -> Tensor:
    """Turn logits (rows, V) into softmax - one hot where they lie; returns each row's nats in fp32, (rows, 1).

    A few rows at a time, in fp32 whatever the logits are in, so that all passes but the first find them in the cache.
    """
    nats = []
    rows = max(1, BLOCK // logits.shape[1]) if logits.device.type == "cpu" else len(logits)
    for start in range(0, len(logits), rows):
        block = logits[start : start + rows].float()
        index = targets[start : start + rows].clamp(min=0).unsqueeze(1)  # (rows, 1)
        probabilities = block.softmax(dim=-1)
        # log sum exp(logits) = largest logit - log(largest probability), which cannot overflow or be log 0.
        normaliser = block.amax(-1, keepdim=True) - probabilities.amax(-1, keepdim=True).log()
        nats.append(normaliser - block.gather(1, index))
        probabilities.scatter_add_(1, index, torch.full_like(index, -1, dtype=torch.float32))
        logits[start : start + rows] = probabilities
    return torch.cat(nats)


def _add_product(total: Tensor, gradient: Tensor, hidden: Tensor, first: bool) -> None:
    """total (V, C) += gradient (rows, V)^T @ hidden (rows, C), a slice of V at a time; the first only sets it.

    A slice of the product is still in the cache when it is added, and no second (V, C) is ever there.
    """
    for start in range(0, len(total), SLICE):
        part = F.linear(gradient[:, start : start + SLICE].T, hidden.T)
        if first:
            total[start : start + SLICE] = part
        else:
            total[start : start + SLICE] += part
