"""The weights of our model <-> those of Hugging Face's, as `names` has the table."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from glassgpt.checkpoint.huggingface_config import config_from_huggingface, config_to_huggingface
from glassgpt.checkpoint.names import Place, places
from glassgpt.checkpoint.stored import StoredTensor
from glassgpt.checkpoint.tensors import as_torch
from glassgpt.model import GPTModel

__all__ = ["config_from_huggingface", "config_to_huggingface", "load_huggingface_weights", "weights_to_huggingface"]


def weights_to_huggingface(model: GPTModel, only: Iterable[Place] | None = None) -> dict[str, Tensor]:
    """The weights, at all places or `only` at some, under Hugging Face's names.

    Most are views of the model's own, transposed ones included.
    """
    tensors = {}
    for place in places(model.config) if only is None else only:
        parts = [model.get_parameter(name).detach() for name in place.ours]
        if not parts:
            tensors[place.theirs] = model.token_embedding.weight.new_zeros(place.shape)
            continue
        whole = parts[0] if len(parts) == 1 else torch.cat(parts)
        tensors[place.theirs] = whole.T if place.transposed else whole
    return tensors


@torch.no_grad()
def load_huggingface_weights(
    model: GPTModel, fitted: Mapping[str, StoredTensor], only: Iterable[Place] | None = None
) -> None:
    """Copy the tensors, which `names.fitting` gave, into the model, one at a time, as its dtype, to its device."""
    for place in places(model.config) if only is None else only:
        tensor = as_torch(fitted[place.theirs])
        rows = tensor.T if place.transposed else tensor
        for part, values in zip(place.ours, rows.split(place.n_rows) if place.ours else (), strict=True):
            model.get_parameter(part).copy_(values)
