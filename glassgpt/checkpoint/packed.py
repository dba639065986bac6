"""A quantised model's files: what its config.json says, and which tensors its model.safetensors holds. No torch here.

config.json is the one of the model before, with these two for its model_type (such as "gpt2"):

    "model_type": "glassgpt-gpt2"
    "quantization_config": {"quant_method": "glassgpt", "format": "int8" or "int4", "group_size": 64 or 32}

Each matrix but the position embedding is two tensors under our name for it, `blocks.0.attention.query.weight.values`
(U8) and `.scales` (BF16), in panels, so that the decoder computes with them where the file is mapped into memory:
values begin at multiples of 64 bytes, scales at multiples of 32. The position embedding, norms and biases have Hugging
Face's names and are F32.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from glassgpt.checkpoint.huggingface_config import CONFIG, config_from_huggingface, quantized_format, read_config
from glassgpt.checkpoint.names import Place, fitting, places
from glassgpt.checkpoint.stored import WEIGHTS, StoredTensor, stored_weights
from glassgpt.config import GPTConfig
from glassgpt.native.packing import packed_shapes
from glassgpt.quantization.formats import Format
from glassgpt.settings import InputError

VALUES, SCALES = ".values", ".scales"


@dataclass(frozen=True)
class StoredModel:
    """A built-in model as it lies on the disk, compared with its config.json."""

    config: GPTConfig
    format: Format | None
    """How it is quantised; None where it is not."""
    tensors: Mapping[str, StoredTensor]
    """As `names.fitting` gives them, or of a quantised model `fitting_packed`."""


def open_stored(directory: Path) -> StoredModel:
    """The model in a Hugging Face directory, unchecked against its manifest. Raises InputError where it is none."""
    path, name = directory / CONFIG, str(directory / WEIGHTS)
    values = read_config(path)
    config, kind = config_from_huggingface(values, str(path)), quantized_format(values, str(path))
    tensors = stored_weights(directory)
    fitted = fitting_packed(config, kind, tensors, name) if kind else fitting(config, tensors, name)
    if kind:
        _refuse_damaged_scales(fitted, name)
    return StoredModel(config, kind, fitted)


def load_format(directory: Path) -> Format | None:
    """How the model in a directory is quantised; None where it is not. Raises InputError as `load_config` does."""
    path = directory / CONFIG
    return quantized_format(read_config(path), str(path))


def is_packed(place: Place) -> bool:
    """Whether what lies at this place is quantised: all matrices but the position embedding."""
    return any(name.endswith(".weight") and name != "position_embedding.weight" for name in place.ours)


def matrices(config: GPTConfig) -> dict[str, tuple[int, int]]:
    """Our name of each matrix that is quantised -> its rows and columns."""
    found: dict[str, tuple[int, int]] = {}
    for place in filter(is_packed, places(config)):
        n_columns = place.shape[0] if place.transposed else place.shape[1]
        found |= {ours: (n_rows, n_columns) for ours, n_rows in zip(place.ours, place.n_rows, strict=True)}
    return found


def fitting_packed(
    config: GPTConfig, kind: Format, tensors: Mapping[str, StoredTensor], name: str
) -> dict[str, StoredTensor]:
    """The tensors of a quantised model of `config`: those of `matrices`, each as two, and the others as theirs.

    Raises InputError naming the tensor and the file `name` where one is missing, superfluous, or of a wrong shape or
    dtype.
    """
    fitted = {}
    for ours, shape in matrices(config).items():
        expected = zip((VALUES, SCALES), ("U8", "BF16"), packed_shapes(kind, *shape), strict=True)
        for ending, dtype, packed_shape in expected:
            tensor = tensors.get(ours + ending)
            if tensor is None:
                raise InputError(f"{name} lacks the tensor {ours + ending}, which its config.json asks for")
            if (tensor.dtype, tensor.shape) != (dtype, packed_shape):
                given, asked = f"{tensor.dtype} {tensor.shape}", f"{dtype} {packed_shape}"
                raise InputError(f"{name}: tensor {ours + ending} is {given}, but its config.json asks for {asked}")
            fitted[ours + ending] = tensor
    rest = {theirs: tensor for theirs, tensor in tensors.items() if theirs not in fitted}
    return fitted | fitting(config, rest, name, [place for place in places(config) if not is_packed(place)])


def _refuse_damaged_scales(fitted: Mapping[str, StoredTensor], name: str) -> None:
    """Raise InputError naming the tensor whose scales are not all finite: a model may go on writing with them."""
    for ours, tensor in fitted.items():
        if ours.endswith(SCALES) and (tensor.array() & 0x7F80 == 0x7F80).any():
            raise InputError(f"{name}: tensor {ours} has values that are not finite: take another copy of the model")
