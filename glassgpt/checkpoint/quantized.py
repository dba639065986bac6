"""The weights of our model <-> the tensors of a quantised directory, as `packed` names them."""

from collections.abc import Mapping

import torch
from torch import Tensor

from glassgpt.checkpoint.huggingface import load_huggingface_weights, weights_to_huggingface
from glassgpt.checkpoint.names import places
from glassgpt.checkpoint.packed import SCALES, VALUES, is_packed, matrices
from glassgpt.checkpoint.stored import StoredTensor
from glassgpt.model import GPTModel
from glassgpt.native.packing import PackedMatrix, unpack
from glassgpt.quantization.formats import Format
from glassgpt.quantization.modules import refuse_unquantizable
from glassgpt.quantization.panels import packed


def weights_to_packed(model: GPTModel, kind: Format) -> dict[str, Tensor]:
    """The weights as a quantised directory holds them. Raises InputError for weights that are not finite."""
    tensors: dict[str, Tensor] = {}
    for name in matrices(model.config):
        matrix = model.get_parameter(name)
        refuse_unquantizable(matrix, name)
        panels = packed(matrix, kind)
        tensors[name + VALUES] = torch.from_numpy(panels.values)
        tensors[name + SCALES] = torch.from_numpy(panels.scales).view(torch.bfloat16)
    whole = [place for place in places(model.config) if not is_packed(place)]
    return tensors | {name: tensor.float() for name, tensor in weights_to_huggingface(model, whole).items()}


@torch.no_grad()
def load_packed_weights(model: GPTModel, fitted: Mapping[str, StoredTensor], kind: Format) -> None:
    """Copy the tensors, which `packed.fitting_packed` gave, dequantised into the model, as its dtype, to its device."""
    for name, shape in matrices(model.config).items():
        panels = PackedMatrix(kind, *shape, fitted[name + VALUES].array(), fitted[name + SCALES].array())
        model.get_parameter(name).copy_(torch.from_numpy(unpack(panels)))
    load_huggingface_weights(model, fitted, [place for place in places(model.config) if not is_packed(place)])
