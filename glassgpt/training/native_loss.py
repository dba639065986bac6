"""The loss of a model and its gradients, computed by the native step instead of PyTorch."""

import functools
import math

import torch
from torch import Tensor, nn

from glassgpt.model import GPTModel, RotaryPositions
from glassgpt.native.trainer import BLOCK_TENSORS, MODEL_TENSORS, Trainer
from glassgpt.ops.loss import IGNORED


class NativeLoss:
    """Stands where `NextTokenLoss` and `backward` stand: the same numbers, up to rounding, in one call.

    The gradients are views of one buffer, which is used again in every step.
    """

    def __init__(self, model: GPTModel, threads: int, bf16: bool) -> None:
        self.model, self.threads, self.bf16 = model, threads, bf16
        self.parameters = slots = parameter_slots(model)
        self.trainer = self._trainer(bf16)
        sizes = [parameter.numel() for parameter in slots.values()]
        views = torch.empty(sum(sizes)).split(sizes)
        self.gradients = {n: view.view_as(slots[n]) for n, view in zip(slots, views, strict=True)}
        self.weights = [slots[n].data_ptr() if n in slots else 0 for n in range(self.trainer.n_slots)]
        self.into = [self.gradients[n].data_ptr() if n in slots else 0 for n in range(self.trainer.n_slots)]

    def _trainer(self, bf16: bool) -> Trainer:
        model = self.model
        sizes = {slot: parameter.numel() for slot, parameter in self.parameters.items()}
        rotary = next((module for module in model.modules() if isinstance(module, RotaryPositions)), None)
        half = model.config.head_dim // 2
        cos = rotary.cos[:, :half].numpy() if rotary else None  # (T, D / 2); the second half repeats it
        sin = rotary.sin[:, half:].numpy() if rotary else None
        return Trainer(model.config, sizes, cos, sin, threads=self.threads, bf16=bf16)

    @functools.cached_property
    def _exact(self) -> Trainer:
        return self._trainer(bf16=False) if self.bf16 else self.trainer

    def nats(self, ids: Tensor, targets: Tensor) -> float:
        """Sum of -log p of the targets, (B, T) int64 as the ids: without dropout, and in fp32 whatever trains."""
        return self._exact.step(self.weights, None, ids.data_ptr(), targets.data_ptr(), *ids.shape)[0]

    def gradients_of(self, ids: Tensor, targets: Tensor) -> tuple[float, float]:
        """Mean nats of the targets that are not IGNORED, and the norm of all gradients, now in `.grad`.

        ids and targets are (B, T) int64. What is dropped follows from the last seed given to `torch.manual_seed`.
        """
        count = max(1, int((targets != IGNORED).sum()))
        rate = self.model.config.dropout_rate if self.model.training else 0.0
        nats, squared = self.trainer.step(
            self.weights, self.into, ids.data_ptr(), targets.data_ptr(), *ids.shape,
            loss_scale=1.0 / count, dropout_rate=rate, seed=torch.initial_seed() % 2**32,
        )  # fmt: skip
        for slot, parameter in self.parameters.items():
            parameter.grad = self.gradients[slot]
        return nats / count, math.sqrt(squared)


def parameter_slots(model: GPTModel) -> dict[int, nn.Parameter]:
    """The parameters of a model by their slot in the native step."""
    names: dict[str, int] = {name: slot for slot, name in enumerate(MODEL_TENSORS)}
    for layer in range(model.config.n_layers):
        first = len(MODEL_TENSORS) + layer * len(BLOCK_TENSORS)
        names |= {f"blocks.{layer}.{name}": first + slot for slot, name in enumerate(BLOCK_TENSORS)}
    return {names[name.removesuffix(".weight")]: parameter for name, parameter in model.named_parameters()}
