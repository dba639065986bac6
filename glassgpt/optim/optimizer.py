"""The optimiser that training calls: parts that each update parameters of their own.

It is no `torch.optim.Optimizer`: to construct the first one of those imports PyTorch's compiler, which takes 1.7 s
and some 60 MB at every start.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from torch import Tensor, nn

from glassgpt.optim.average import WeightAverage
from glassgpt.settings import InputError


class Part(Protocol):
    """One way to update some of the parameters, such as `AdamW` or `Muon`."""

    parameters: list[nn.Parameter]

    def step(self, learning_rate: float) -> None:
        """Update the parameters by their gradients, which may be overwritten."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """All that later steps depend on, by name; the same names from the start to the end."""
        ...

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over the values of tensors named and shaped as those that `tensors` returns."""
        ...

    def reset(self) -> None:
        """Go back to the state before the first step."""
        ...


class Optimizer:
    """All parts as one, and the average of the weights, if one is kept."""

    def __init__(self, parts: Sequence[Part], average: WeightAverage | None = None) -> None:
        self.parts = list(parts)
        self.average = average
        self.parameters = [parameter for part in parts for parameter in part.parameters]

    def zero_grad(self) -> None:
        """Let go of all gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def step(self, learning_rate: float) -> None:
        """Update every parameter by its gradient, which may be overwritten.

        `learning_rate` is what `optim.learning_rate` has become at this step of the schedule; a part with a rate of
        its own follows in proportion.
        """
        for part in self.parts:
            part.step(learning_rate)
        if self.average:
            self.average.update()

    def averaged(self) -> AbstractContextManager[None]:
        """Inside, the parameters hold what is to be evaluated and saved: their average, where one is kept."""
        return self.average.in_place() if self.average else nullcontext()

    def tensors(self) -> dict[str, Tensor]:
        """The state by parameter and name: "blocks.0.attention.query.weight/momentum". Not copies."""
        return {name: tensor for part in self._with_state() for name, tensor in part.tensors().items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what `tensors` returned, for a model that holds the weights saved with it.

        Raises InputError where it is another optimiser's or model's.
        """
        for part in self._with_state():
            for name, own in part.tensors().items():
                saved = tensors.get(name)
                if saved is None or saved.shape != own.shape or saved.is_floating_point() != own.is_floating_point():
                    raise InputError(
                        f"the optimiser's state has no {name} of shape {list(own.shape)} and type {own.dtype}: it was "
                        "saved by another version or with other settings, so start a new run"
                    )
            part.restore(tensors)

    def reset(self) -> None:
        """Go back to the state before the first step."""
        for part in self._with_state():
            part.reset()

    def _with_state(self) -> list[Part | WeightAverage]:
        return [*self.parts, *([self.average] if self.average else [])]
