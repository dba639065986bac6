"""Which parameters are updated how."""

from torch import nn

from glassgpt.config import OptimConfig
from glassgpt.optim.adamw import AdamW
from glassgpt.optim.muon import Muon
from glassgpt.optim.optimizer import Optimizer


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
    rest = {name: p for name, p in model.named_parameters() if p.requires_grad and name not in hidden}
    return Optimizer([Muon(hidden, config), AdamW(rest, config)] if hidden else [AdamW(rest, config)])
