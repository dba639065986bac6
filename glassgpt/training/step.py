"""One step of training: loss, gradients, clipping, update."""

import contextlib
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from glassgpt.config import RunConfig
from glassgpt.model import GPTModel
from glassgpt.ops.linear import OneDnnLinear
from glassgpt.ops.loss import IGNORED, chunked_cross_entropy


class NonFinite(ArithmeticError):
    """A loss or gradient is NaN or infinite. Nothing was updated; the message names the tensor."""


class NextTokenLoss(nn.Module):
    """A model whose forward is its training loss. The logits are never held all at once."""

    def __init__(self, model: GPTModel, run: RunConfig = RunConfig()) -> None:  # noqa: B008 (frozen)
        super().__init__()
        self.model = model
        self.dtype = torch.bfloat16 if run.dtype == "bf16" else torch.float32
        self.kernels = OneDnnLinear if run.linear == "onednn" else contextlib.nullcontext

    def forward(self, ids: Tensor, targets: Tensor) -> Tensor:
        """ids and targets (B, T) int64 -> mean nats of the targets that are not IGNORED, ()."""
        with torch.autocast(ids.device.type, self.dtype, enabled=self.dtype != torch.float32), self.kernels():
            hidden = self.model.hidden(ids)  # (B, T, C)
        return chunked_cross_entropy(
            hidden.flatten(0, 1).to(self.dtype), self.model.output_head.weight, targets.flatten()
        )


@dataclass(frozen=True)
class StepResult:
    """What a step measured: mean nats a token, and the norm of all gradients before clipping."""

    loss: float
    grad_norm: float


def training_step(
    loss_of: NextTokenLoss,
    optimizer: torch.optim.Optimizer,
    ids: Tensor,
    targets: Tensor,
    *,
    learning_rate: float,
    grad_clip: float,
    accumulation: int = 1,
) -> StepResult:
    """Update the model once on a batch, computed in `accumulation` parts of equal size.

    Raises NonFinite before anything is updated.
    """
    optimizer.zero_grad(set_to_none=True)
    n_targets = int((targets != IGNORED).sum())
    loss = 0.0
    for part_ids, part_targets in zip(ids.chunk(accumulation), targets.chunk(accumulation), strict=True):
        share = int((part_targets != IGNORED).sum()) / max(1, n_targets)
        part_loss = loss_of(part_ids, part_targets) * share
        part_loss.backward()
        loss += float(part_loss.detach())
    parameters = [p for p in loss_of.parameters() if p.grad is not None]
    norm = float(torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))
    if not (abs(loss) < float("inf") and norm < float("inf")):
        raise NonFinite(_culprit(loss_of, loss))
    if 0 < grad_clip < norm:
        torch.nn.utils.clip_grads_with_norm_(parameters, grad_clip, torch.tensor(norm))
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    optimizer.step()
    return StepResult(loss, norm)


def _culprit(loss_of: NextTokenLoss, loss: float) -> str:
    """Which number is not finite, the earliest in the model first."""
    for name, parameter in loss_of.model.named_parameters():
        if not torch.isfinite(parameter).all():
            return f"the weight {name} is not finite"
    if not abs(loss) < float("inf"):
        return f"the loss is {loss}"
    for name, parameter in loss_of.model.named_parameters():
        if parameter.grad is not None and not torch.isfinite(parameter.grad).all():
            return f"the gradient of {name} is not finite"
    return "the norm of the gradients overflows"
