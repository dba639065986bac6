"""Linear layers and token embeddings of any model, replaced by ones that keep their weights in 8 or 4 bits.

The weights become fp32 again (or bf16, as the model was) a piece at a time while they are used, so memory falls to a
quarter or an eighth on any device; time does not. For speed on the CPU the native decoder computes with the whole
numbers themselves.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glassgpt.quantization.formats import Format
from glassgpt.quantization.panels import rounded
from glassgpt.quantization.rounding import dequantize_matrix
from glassgpt.settings import InputError

_PIECE = 2**22  # weights that are there in full precision at a time


class QuantizedMatrix(nn.Module):
    """A matrix (N, K) in whole numbers with scales. Embedding and head share one where they were tied."""

    def __init__(self, weight: Tensor, kind: Format) -> None:
        super().__init__()
        self.kind, self.dtype = kind, weight.dtype
        self.n_rows, self.n_columns = weight.shape
        q, scales = rounded(weight, kind)
        # Two numbers of 4 bits lie in a byte: column k below, k + K' / 2 above it.
        self.register_buffer("q", q if kind == "int8" else _paired(q))
        self.register_buffer("scales", scales)

    def rows(self, which: Tensor | slice) -> Tensor:
        """Some rows as they are to be used, (..., K)."""
        q, scales = self.q[which], self.scales[which]
        lead = q.shape[:-1]
        q, scales = q.reshape(-1, q.shape[-1]), scales.reshape(-1, scales.shape[-1])
        q = q if self.kind == "int8" else _apart(q)
        return dequantize_matrix(q, scales, self.n_columns).to(self.dtype).unflatten(0, lead)


class QuantizedLinear(nn.Module):
    """y = x W^T + bias with a quantised W, of which a few rows at a time exist in full precision."""

    def __init__(self, matrix: QuantizedMatrix, bias: nn.Parameter | None) -> None:
        super().__init__()
        self.matrix = matrix
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        n_rows, a_time = self.matrix.n_rows, max(1, _PIECE // self.matrix.n_columns)
        pieces = [slice(start, min(start + a_time, n_rows)) for start in range(0, n_rows, a_time)]
        bias = self.bias
        parts = [F.linear(x, self.matrix.rows(piece), None if bias is None else bias[piece]) for piece in pieces]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)


class QuantizedEmbedding(nn.Module):
    """One row of a quantised matrix for each id."""

    def __init__(self, matrix: QuantizedMatrix) -> None:
        super().__init__()
        self.matrix = matrix

    def forward(self, ids: Tensor) -> Tensor:
        return self.matrix.rows(ids)


@torch.no_grad()
def quantize(model: nn.Module, kind: Format) -> None:
    """Replace each nn.Linear and nn.Embedding of `model` by its quantised form; subclasses of them are left alone.

    For inference: what was replaced does not train. Raises InputError for a model that is quantised already, or has
    weights that are not finite.
    """
    if is_quantized(model):
        raise InputError("the model is quantised already: quantise the one it was made from")
    matrices: dict[int, QuantizedMatrix] = {}
    for name, module in [*model.named_modules()]:
        for child_name, child in [*module.named_children()]:
            if type(child) not in (nn.Linear, nn.Embedding):
                continue
            weight = child.get_parameter("weight")
            refuse_unquantizable(weight, f"{name}.{child_name}.weight".lstrip("."))
            if id(weight) not in matrices:
                matrices[id(weight)] = QuantizedMatrix(weight, kind)
            matrix = matrices[id(weight)]
            new = QuantizedLinear(matrix, child.bias) if isinstance(child, nn.Linear) else QuantizedEmbedding(matrix)
            setattr(module, child_name, new.train(child.training))


def is_quantized(model: nn.Module) -> bool:
    """Whether `quantize` was applied to a part of the model."""
    return any(isinstance(module, QuantizedMatrix) for module in model.modules())


def refuse_unquantizable(weight: Tensor, name: str) -> None:
    """Raise InputError for weights that are infinite or no number: no scale fits them."""
    if not bool(weight.isfinite().all()):
        raise InputError(f"{name} has values that are not finite, so it cannot be quantised: take another checkpoint")


def _paired(q: Tensor) -> Tensor:
    low, high = (q + 8).to(torch.uint8).chunk(2, dim=1)
    return low | high << 4


def _apart(pairs: Tensor) -> Tensor:
    return torch.cat([pairs & 15, pairs >> 4], dim=1).to(torch.int8) - 8
