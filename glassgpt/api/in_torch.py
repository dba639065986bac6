"""The model of a directory in PyTorch: to measure it, to look inside, and to write where there is no native decoder."""

from pathlib import Path

import torch

from glassgpt.api.code import Code, ModelMaker, read_code
from glassgpt.checkpoint.directory import load_model, model_of
from glassgpt.checkpoint.own_model import CODE
from glassgpt.checkpoint.packed import StoredModel
from glassgpt.model import GPTModel
from glassgpt.native.packing import Format
from glassgpt.quantization.modules import quantize


def model_in_torch(stored: StoredModel, device: str, kind: Format) -> GPTModel:
    """The built-in model with its weights rounded to `kind`."""
    model = model_of(stored, device, _dtype(kind))
    if stored.format is None:
        _round(model, kind)
    return model


def own_in_torch(
    checkpoint: Path, device: str, kind: Format, given: ModelMaker | None, trust_code: bool
) -> GPTModel:
    """A model of the user's own, made by what was `given` or by the source in `checkpoint`.

    Raises InputError where neither is there or may be run.
    """
    code = Code(given)
    if given is None and trust_code and (checkpoint / CODE).is_file():
        code = read_code(checkpoint / CODE)
    with code.blamed():
        model = load_model(
            checkpoint, device=device, dtype=_dtype(kind), make_model=code.bare_model if code.make_model else None
        )
    _round(model, kind)
    return model


def _dtype(kind: Format) -> torch.dtype:
    return torch.bfloat16 if kind == "bf16" else torch.float32


def _round(model: GPTModel, kind: Format) -> None:
    if kind in ("int8", "int4"):
        quantize(model, kind)
