"""An optimiser of PyTorch's, or one of the user's that extends `torch.optim.Optimizer`, as a part of ours."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from glassgpt.settings import InputError


class TorchOptimizer:
    """Each parameter group keeps its share of the learning rate: what it was made with, by `highest`, the run's."""

    def __init__(self, inner: torch.optim.Optimizer, named: Mapping[str, nn.Parameter], highest: float) -> None:
        self.inner = inner
        self.parameters: list[nn.Parameter] = [p for group in inner.param_groups for p in group["params"]]
        places = {id(parameter): place for place, parameter in enumerate(self.parameters)}
        self.places = {name: places[id(parameter)] for name, parameter in named.items() if id(parameter) in places}
        self.shares = [float(group["lr"]) / highest for group in inner.param_groups]

    def step(self, learning_rate: float) -> None:
        """Update the parameters by their gradients."""
        for group, share in zip(self.inner.param_groups, self.shares, strict=True):
            group["lr"] = learning_rate * share
        self.inner.step()

    def tensors(self) -> dict[str, Tensor]:
        """The state of each parameter, "NAME/torch/KEY"; empty before the first step."""
        return {
            f"{name}/torch/{key}": torch.as_tensor(value)
            for name, place in self.places.items()
            for key, value in self.inner.state.get(self.parameters[place], {}).items()
            if value is not None
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `tensors` returned. Raises InputError where a parameter is not updated here."""
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            owner, _, key = name.partition("/torch/")
            if key and owner not in self.places:
                raise InputError(f"the optimiser does not update {owner}, as it did before: give the same one again")
            if key:
                state.setdefault(self.places[owner], {})[key] = value
        self.inner.load_state_dict({"state": state, "param_groups": self.inner.state_dict()["param_groups"]})

    def reset(self) -> None:
        """Go back to the state before the first step, as far as it lies where PyTorch keeps it."""
        self.inner.state.clear()
