"""A checkpoint is one directory: a Hugging Face model, the trainer's state, and a manifest of it all.

    config.json  model.safetensors  tokenizer.json ...    the model, for any tool
    trainer/state.safetensors  trainer/counters.json      what only the continuation of its training needs
    manifest.json                                         size and SHA-256 of every file, written last

It appears under its name complete or not at all (`atomic`), and is compared with its manifest before use.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from glassgpt.checkpoint.atomic import write_through, written_aside
from glassgpt.checkpoint.huggingface import (
    check_huggingface_weights,
    load_huggingface_weights,
    weights_to_huggingface,
)
from glassgpt.checkpoint.huggingface_config import CONFIG, config_to_huggingface, load_config
from glassgpt.checkpoint.manifest import MANIFEST, TRAINER, manifest_bytes, verify_checkpoint
from glassgpt.checkpoint.tensors import WEIGHTS, TensorFile, open_weights, safetensors_parts
from glassgpt.model import GPTModel, MultiHeadAttention, RotaryPositions
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


def save_checkpoint(
    directory: Path, model: GPTModel, tokenizer: Tokenizer | None, trainer: TrainerState | None = None
) -> None:
    """Write a checkpoint that is there in full or not at all; one of the same name is replaced.

    Raises SaveError where the system refuses, with the partial directory removed and nothing else touched;
    InputError where the tokenizer has more ids than the model, or `directory` is something else already.
    """
    if tokenizer and tokenizer.vocab_size > model.config.vocab_size:
        sizes = f"the tokenizer has {tokenizer.vocab_size} ids, the model only {model.config.vocab_size}"
        raise InputError(f"{sizes}: save the model with the tokenizer that it was trained with")
    _refuse_to_replace_anything_else(directory)
    dtype = str(model.token_embedding.weight.dtype).removeprefix("torch.")
    config = config_to_huggingface(model.config, tokenizer.end_of_text if tokenizer else None, dtype)
    files: dict[str, Iterable[bytes | memoryview]] = {
        CONFIG: [_json(config)],
        WEIGHTS: safetensors_parts(weights_to_huggingface(model)),
    }
    if tokenizer:
        files |= {name: [content] for name, content in tokenizer.files().items()}
    if trainer:
        files |= {_STATE: safetensors_parts(trainer.tensors), _COUNTERS: [_json(trainer.counters)]}
    with written_aside(directory) as partial:
        sums = {name: write_through(partial / name, parts) for name, parts in files.items()}
        write_through(partial / MANIFEST, [manifest_bytes(sums)])


def load_model(directory: Path, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> GPTModel:
    """The model of any Hugging Face directory of a GPT-2, Llama or Qwen3, in evaluation mode.

    Its weights are converted to `dtype`; the file is only mapped into memory, not read as a whole beside it.
    Raises InputError for a directory that is no model, is damaged, or is of an unsupported kind.
    """
    verify_checkpoint(directory, trainer=False)
    config = load_config(directory)
    tensors = open_weights(directory)
    if config.n_layers > len(tensors):
        raise InputError(f"{directory / CONFIG} says {config.n_layers} layers for {len(tensors)} tensors")
    with torch.device("meta"), _NothingDrawn():
        model = GPTModel(config).to(dtype)
    check_huggingface_weights(model, tensors, str(directory / WEIGHTS))

    model = model.to_empty(device=device)
    if config.tie_embeddings:
        model.output_head.weight = model.token_embedding.weight
    if config.architecture == "modern":  # derived from the config, not saved, and the same in every block
        rotary = RotaryPositions(config).to(device, dtype)
        for module in model.modules():
            if isinstance(module, MultiHeadAttention):
                module.rotary = rotary
    load_huggingface_weights(model, tensors, str(directory / WEIGHTS))
    return model.eval()


def load_trainer_state(directory: Path) -> TrainerState:
    """What `save_checkpoint` was given as `trainer`. Raises InputError where it is missing or damaged."""
    if not (directory / _COUNTERS).is_file():
        raise InputError(f"{directory} has no {_COUNTERS}, so its training cannot go on: start from it with --from")
    verify_checkpoint(directory, model=False)
    try:
        counters = json.loads((directory / _COUNTERS).read_bytes())
    except (OSError, ValueError, RecursionError):
        raise InputError(f"{directory / _COUNTERS} is not valid JSON: take another checkpoint") from None
    state = TensorFile(directory / _STATE)
    return TrainerState(tensors={name: tensor.clone() for name, tensor in state.items()}, counters=counters)


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


def _refuse_to_replace_anything_else(directory: Path) -> None:
    ours = directory.is_dir() and any((directory / name).exists() for name in (MANIFEST, CONFIG))
    empty = directory.is_dir() and not any(directory.iterdir())
    if directory.exists() and not (ours or empty):
        raise InputError(f"{directory} exists and is no checkpoint, so it is not replaced: choose another name")


def _json(values: dict[str, Any]) -> bytes:
    return (json.dumps(values, indent=2) + "\n").encode()
