"""The weights of our model <-> the tensors of a quantised directory, as `packed` names them."""

from collections.abc import Mapping

import torch
from torch import Tensor

from glassgpt.checkpoint.huggingface import load_huggingface_weights, weights_to_huggingface
from glassgpt.checkpoint.names import places
from glassgpt.checkpoint.packed import SCALES, VALUES, is_packed, matrices
from glassgpt.checkpoint.stored import StoredTensor
from glassgpt.model import GPTModel
from glassgpt.quantization.formats import Format
from glassgpt.quantization.modules import refuse_unquantizable
from glassgpt.quantization.panels import from_panels, to_panels
from glassgpt.quantization.rounding import dequantize_matrix, quantize_matrix


def weights_to_packed(model: GPTModel, kind: Format) -> dict[str, Tensor]:
    """The weights as a quantised directory holds them. Raises InputError for weights that are not finite."""
    tensors: dict[str, Tensor] = {}
    for name in matrices(model.config):
        matrix = model.get_parameter(name)
        refuse_unquantizable(matrix, name)
        q, scales = quantize_matrix(matrix.cpu(), kind)
        values, bits = to_panels(q.numpy(), scales.view(torch.uint16).numpy(), kind)
        tensors[name + VALUES] = torch.from_numpy(values)
        tensors[name + SCALES] = torch.from_numpy(bits).view(torch.bfloat16)
    whole = [place for place in places(model.config) if not is_packed(place)]
    return tensors | {name: tensor.float() for name, tensor in weights_to_huggingface(model, whole).items()}


@torch.no_grad()
def load_packed_weights(model: GPTModel, fitted: Mapping[str, StoredTensor], kind: Format) -> None:
    """Copy the tensors, which `packed.fitting_packed` gave, dequantised into the model, as its dtype, to its device."""
    for name, (n_rows, n_columns) in matrices(model.config).items():
        values, bits = fitted[name + VALUES].array(), fitted[name + SCALES].array()
        q, scales = (torch.from_numpy(array) for array in from_panels(values, bits, kind, n_rows))
        model.get_parameter(name).copy_(dequantize_matrix(q, scales.view(torch.bfloat16), n_columns))
    load_huggingface_weights(model, fitted, [place for place in places(model.config) if not is_packed(place)])
