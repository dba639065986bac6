"""One step of training: loss, gradients, clipping, update; or no update, where it would spoil the model."""

import contextlib
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from glassgpt.config import RunConfig
from glassgpt.model import GPTModel
from glassgpt.ops.linear import OneDnnLinear
from glassgpt.ops.loss import IGNORED, chunked_cross_entropy
from glassgpt.ops.mixed_precision import MixedPrecision
from glassgpt.ops.tied import TiedWeight
from glassgpt.optim.optimizer import Optimizer
from glassgpt.training.finite import first_not_finite
from glassgpt.training.health import StepHealth, StepWatch
from glassgpt.training.native_loss import NativeLoss
from glassgpt.training.recompute import recompute_blocks

SPIKE_RATIO, SPIKE_NATS = 10.0, 2.0
"""A loss this many times as high as was usual, and this many nats above it, is a spike."""


class Refused(ArithmeticError):
    """A step that would have spoiled the model; nothing was updated. The message says why."""

    def __init__(self, why: str, tensor: str | None = None, is_weight: bool = False) -> None:
        super().__init__(why)
        self.tensor = tensor
        """Which is not finite, or so large that the norm is not; None where it is the loss alone."""
        self.is_weight = is_weight
        """Then no other batch mends it."""


class NextTokenLoss(nn.Module):
    """A model whose forward is its training loss. The logits are never held all at once."""

    def __init__(self, model: GPTModel, run: RunConfig = RunConfig()) -> None:  # noqa: B008 (frozen)
        super().__init__()
        self.model = model
        self.dtype = torch.bfloat16 if run.dtype == "bf16" else torch.float32
        self.linear = run.linear

    def forward(self, ids: Tensor, targets: Tensor) -> Tensor:
        """ids and targets (B, T) int64 -> mean nats of the targets that are not IGNORED, ()."""
        with self.kernels(ids.device):
            with TiedWeight(self.model.output_head.weight) as tied:
                hidden = self.model.hidden(ids)  # (B, T, C)
            return chunked_cross_entropy(hidden.flatten(0, 1).to(self.dtype), tied.head, targets.flatten())

    def kernels(self, device: torch.device) -> contextlib.AbstractContextManager[object]:
        """What the model's arithmetic runs in."""
        if self.dtype == torch.bfloat16:
            return MixedPrecision() if device.type == "cpu" else torch.autocast(device.type, self.dtype)
        return OneDnnLinear() if self.linear == "onednn" else contextlib.nullcontext()


def training_loss(model: GPTModel, run: RunConfig) -> NextTokenLoss | NativeLoss:
    """The loss of a model as this run computes it. Raises MemoryError where the native step has no room."""
    if run.kernel == "native":
        return NativeLoss(model, run.threads, bf16=run.dtype == "bf16")
    loss_of = NextTokenLoss(model, run)
    if run.recompute:
        recompute_blocks(model, loss_of.kernels)
    return loss_of


@dataclass(frozen=True)
class StepResult:
    """What a step measured: mean nats a token, and the norm of all gradients before clipping."""

    loss: float
    grad_norm: float
    health: StepHealth | None = None
    """What a watch saw."""


def training_step(
    loss_of: NextTokenLoss | NativeLoss,
    optimizer: Optimizer,
    ids: Tensor,
    targets: Tensor,
    *,
    learning_rate: float,
    grad_clip: float,
    accumulation: int = 1,
    watch: StepWatch | None = None,
    usual_loss: float = math.inf,
) -> StepResult:
    """Update the model once on a batch, computed in `accumulation` parts of equal size; `watch` looks on.

    Raises Refused before anything is updated, where a number is not finite or the loss is a spike beside `usual_loss`.
    The host waits for the device once, when loss and norm are known.
    """
    if isinstance(loss_of, NativeLoss):
        loss, norm = loss_of.gradients_of(ids, targets)
    else:
        loss, norm = _autograd(loss_of, optimizer, ids, targets, accumulation)
    refuse_spoiled(loss_of, loss, norm, usual_loss)
    if watch:
        watch.before_update()
    if 0 < grad_clip < norm:
        torch._foreach_mul_([p.grad for p in optimizer.parameters if p.grad is not None], grad_clip / norm)
    optimizer.step(learning_rate)
    return StepResult(loss, norm, watch.after_update() if watch else None)


def _autograd(
    loss_of: NextTokenLoss, optimizer: Optimizer, ids: Tensor, targets: Tensor, accumulation: int
) -> tuple[float, float]:
    """Loss and norm of the gradients, which PyTorch leaves in `.grad`."""
    optimizer.zero_grad()
    n_targets = (targets != IGNORED).sum().clamp(min=1)
    losses: list[Tensor] = []
    for part_ids, part_targets in zip(ids.chunk(accumulation), targets.chunk(accumulation), strict=True):
        part_loss = loss_of(part_ids, part_targets) * ((part_targets != IGNORED).sum() / n_targets)
        part_loss.backward()
        losses.append(part_loss.detach())
    gradients = [p.grad for p in optimizer.parameters if p.grad is not None]
    total_norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    loss, norm = torch.stack([torch.stack(losses).sum(), total_norm]).tolist()
    return loss, norm


def refuse_spoiled(loss_of: NextTokenLoss | NativeLoss, loss: float, norm: float, usual_loss: float) -> None:
    """Raise Refused where an update by these gradients would spoil the model, with the earliest cause in it."""
    if math.isfinite(loss) and math.isfinite(norm):
        if loss > max(SPIKE_RATIO * usual_loss, usual_loss + SPIKE_NATS):
            raise Refused(f"the loss is {loss:.4g}, where up to {usual_loss:.4g} was usual")
        return
    parameters = dict(loss_of.model.named_parameters())
    if name := first_not_finite(parameters.items()):
        raise Refused(f"the weight {name} is not finite", name, is_weight=True)
    if not math.isfinite(loss):
        raise Refused(f"the loss is {loss}")
    gradients = {name: parameter.grad for name, parameter in parameters.items() if parameter.grad is not None}
    if name := first_not_finite(gradients.items()):
        raise Refused(f"the gradient of {name} is not finite", name)
    largest = max(gradients, key=lambda name: float(gradients[name].abs().max()))
    raise Refused(f"the norm of the gradients overflows, that of {largest} before others", largest)
