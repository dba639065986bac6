"""Which parameters are updated how."""

from collections.abc import Sequence

from torch import nn

from glassgpt.config import OptimConfig
from glassgpt.optim.adamw import AdamW
from glassgpt.optim.average import WeightAverage
from glassgpt.optim.muon import Muon
from glassgpt.optim.optimizer import Optimizer, Part


def hidden_matrices(model: nn.Module) -> dict[str, nn.Parameter]:
    """The matrices inside the blocks by name: of attention and feed-forward, but not embeddings and the head."""
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if name.startswith("blocks.") and parameter.dim() == 2 and parameter.requires_grad
    }


def make_optimizer(model: nn.Module, config: OptimConfig) -> Optimizer:
    """AdamW for everything, or Muon for the hidden matrices and AdamW for the rest."""
    hidden = hidden_matrices(model) if config.name == "muon" else {}
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    rest = AdamW({name: parameter for name, parameter in trained.items() if name not in hidden}, config)
    return with_average([Muon(hidden, config), rest] if hidden else [rest], model, config)


def with_average(parts: Sequence[Part], model: nn.Module, config: OptimConfig) -> Optimizer:
    """The parts as one, with an average of the weights where the settings ask for it."""
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    return Optimizer(parts, WeightAverage(trained, config.average_share) if config.average_share else None)
