"""A model of which only names, classes and shapes exist, on PyTorch's device "meta"; whether another has the same."""

from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from glassgpt.config import GPTConfig
from glassgpt.model import GPTModel


def empty_model(config: GPTConfig) -> GPTModel:
    """A model without storage; `to_empty` gives it some."""
    with torch.device("meta"), _NothingDrawn():
        return GPTModel(config)


def is_builtin(model: nn.Module) -> bool:
    """Whether `model` is made of the same classes in the same places, with the same shapes, as GPTModel."""
    if type(model) is not GPTModel:
        return False
    return _parts(model) == _parts(empty_model(model.config))


class _NothingDrawn(TorchFunctionMode):
    """Inside, no weight is drawn, and the rotary tables are computed on the CPU, whatever the default device.

    On the device "meta" both would only make PyTorch import its compiler, which takes 1.3 s.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.nn.init.normal_:
            return kwargs["tensor"] if kwargs else args[0]
        if func is torch.arange:
            kwargs = {"device": "cpu"} | (kwargs or {})
        return func(*args, **(kwargs or {}))


def _parts(model: nn.Module) -> tuple[list[tuple[str, type]], dict[str, torch.Size], int]:
    classes = [(name, type(module)) for name, module in model.named_modules()]
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    return classes, shapes, sum(1 for _ in model.parameters())  # shared parameters count once
