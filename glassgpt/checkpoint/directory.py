"""A checkpoint is one directory: a Hugging Face model, the trainer's state, and a manifest of it all.

    config.json  model.safetensors  tokenizer.json ...    the model, for any tool
    code.py                                               the source of a model of the user's own
    trainer/state.safetensors  trainer/counters.json      what only the continuation of its training needs
    manifest.json                                         size and SHA-256 of every file, written last

It appears under its name complete or not at all (`files.atomic`), and is compared with its manifest before use.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glassgpt.checkpoint.empty import empty_model, is_builtin
from glassgpt.checkpoint.huggingface import load_huggingface_weights, weights_to_huggingface
from glassgpt.checkpoint.huggingface_config import CONFIG, config_to_huggingface, quantized_config
from glassgpt.checkpoint.own_model import CODE, own_config, own_config_values, refusal
from glassgpt.checkpoint.packed import StoredModel, open_stored
from glassgpt.checkpoint.quantized import load_packed_weights, weights_to_packed
from glassgpt.checkpoint.stored import WEIGHTS, stored_weights
from glassgpt.checkpoint.tensors import TensorFile, as_torch, safetensors_parts
from glassgpt.config import GPTConfig
from glassgpt.files.atomic import write_through, written_aside
from glassgpt.files.manifest import MANIFEST, TRAINER, manifest_bytes, verify_checkpoint
from glassgpt.files.reading import read_json
from glassgpt.model import GPTModel, MultiHeadAttention, RotaryPositions
from glassgpt.quantization.formats import Format
from glassgpt.quantization.modules import is_quantized
from glassgpt.settings import InputError
from glassgpt.text.tokenizer import Tokenizer

_STATE, _COUNTERS = TRAINER + "state.safetensors", TRAINER + "counters.json"


@dataclass(frozen=True, kw_only=True)
class TrainerState:
    """What a training run continues from, besides the weights."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    """The optimiser's moments, states of random generators, ..., by name."""
    counters: dict[str, Any] = field(default_factory=dict)
    """Anything that JSON can hold; floats come back bit for bit, tuples as lists."""
    settings: bytes | None = None
    """The run's config.yaml, kept for the day on which that is damaged; it is not read back here."""


def save_checkpoint(
    directory: Path,
    model: GPTModel,
    tokenizer: Tokenizer | None,
    trainer: TrainerState | None = None,
    code: bytes | None = None,
    quantize: Format | None = None,
) -> None:
    """Write a checkpoint that is there in full or not at all; one of the same name is replaced.

    `code` is the source that makes the model where it is none of the built-in ones; it is kept beside the weights.
    With `quantize`, the weights are written as `packed` has it: for use, not for training on.

    Raises SaveError where the system refuses, with the partial directory removed and nothing else touched;
    InputError where the tokenizer has more ids than the model, `directory` is something else already, or the model
    cannot be quantised.
    """
    if tokenizer and tokenizer.vocab_size > model.config.vocab_size:
        sizes = f"the tokenizer has {tokenizer.vocab_size} ids, the model only {model.config.vocab_size}"
        raise InputError(f"{sizes}: save the model with the tokenizer that it was trained with")
    _refuse_to_replace_anything_else(directory)
    builtin = is_builtin(model)
    if is_quantized(model) or (quantize and not builtin):
        why = "is quantised already" if is_quantized(model) else "is not one of GlassGPT's own"
        done = "quantised" if quantize else "saved"
        raise InputError(f"the model {why}: only GPTModel with weights in full can be {done}")
    if builtin:
        dtype = "float32" if quantize else str(model.token_embedding.weight.dtype).removeprefix("torch.")
        config = config_to_huggingface(model.config, tokenizer.end_of_text if tokenizer else None, dtype)
        weights = weights_to_packed(model, quantize) if quantize else weights_to_huggingface(model)
        config = quantized_config(config, quantize) if quantize else config
    else:
        config, weights = own_config_values(model.config, code is not None), model.state_dict()
    files: dict[str, Iterable[bytes | memoryview]] = {CONFIG: [_json(config)], WEIGHTS: safetensors_parts(weights)}
    if code is not None and not builtin:
        files[CODE] = [code]
    if tokenizer:
        files |= {name: [content] for name, content in tokenizer.files().items()}
    if trainer:
        files |= {_STATE: safetensors_parts(trainer.tensors), _COUNTERS: [_json(trainer.counters)]}
        files |= {TRAINER + "config.yaml": [trainer.settings]} if trainer.settings else {}
    with written_aside(directory) as partial:
        sums = {name: write_through(partial / name, parts) for name, parts in files.items()}
        write_through(partial / MANIFEST, [manifest_bytes(sums)])


def load_model(
    directory: Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    make_model: Callable[[GPTConfig], GPTModel] | None = None,
) -> GPTModel:
    """The model of any Hugging Face directory of a GPT-2, Llama or Qwen3, in evaluation mode.

    Its weights are converted to `dtype`; the file is only mapped into memory, not read as a whole beside it. A model
    of the user's own is made by `make_model`; no code that lies in the directory is run here. A quantised one comes
    dequantised, so that everything works on it as on any other.
    Raises InputError for a directory that is no model, is damaged, or is of an unsupported kind.
    """
    verify_checkpoint(directory, trainer=False)
    if (own := own_config(directory)) is not None:
        if make_model is None:
            raise refusal(directory)
        return _with_own_weights(make_model(own), directory).to(device, dtype).eval()
    return model_of(open_stored(directory), device, dtype)


def model_of(
    stored: StoredModel, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> GPTModel:
    """The built-in model that `stored` holds, in evaluation mode."""
    config = stored.config
    model = empty_model(config).to(dtype).to_empty(device=device)
    if config.tie_embeddings:
        model.output_head.weight = model.token_embedding.weight
    if config.architecture == "modern":  # derived from the config, not saved, and the same in every block
        rotary = RotaryPositions(config).to(device, dtype)
        for module in model.modules():
            if isinstance(module, MultiHeadAttention):
                module.rotary = rotary
    if stored.format:
        load_packed_weights(model, stored.tensors, stored.format)
    else:
        load_huggingface_weights(model, stored.tensors)
    return model.eval()


def load_trainer_state(directory: Path) -> TrainerState:
    """What `save_checkpoint` was given as `trainer`. Raises InputError where it is missing or damaged."""
    if not (directory / _COUNTERS).is_file():
        raise InputError(f"{directory} has no {_COUNTERS}, so its training cannot go on: start from it with --from")
    verify_checkpoint(directory, model=False)
    try:
        counters = read_json(directory / _COUNTERS)
    except (OSError, ValueError):
        raise InputError(f"{directory / _COUNTERS} is not valid JSON: take another checkpoint") from None
    state = TensorFile(directory / _STATE)
    return TrainerState(tensors={name: tensor.clone() for name, tensor in state.items()}, counters=counters)


def _with_own_weights(model: GPTModel, directory: Path) -> GPTModel:
    """The weights under the model's own names. Raises InputError where it has other names or shapes."""
    weights, own = {name: as_torch(stored) for name, stored in stored_weights(directory).items()}, model.state_dict()
    for name in weights.keys() & own.keys():
        if weights[name].is_floating_point() != own[name].is_floating_point():
            what = f"tensor {name} is {weights[name].dtype}, but must be {own[name].dtype}"
            raise InputError(f"{directory / WEIGHTS}: {what} as in the model that the code makes")
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        what = " ".join(str(error).split())
        raise InputError(f"{directory / WEIGHTS} does not fit the model that the code makes: {what}") from None
    return model


def _refuse_to_replace_anything_else(directory: Path) -> None:
    ours = directory.is_dir() and any((directory / name).exists() for name in (MANIFEST, CONFIG))
    empty = directory.is_dir() and not any(directory.iterdir())
    if directory.exists() and not (ours or empty):
        raise InputError(f"{directory} exists and is no checkpoint, so it is not replaced: choose another name")


def _json(values: dict[str, Any]) -> bytes:
    return (json.dumps(values, indent=2) + "\n").encode()
