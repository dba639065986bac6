"""A tiny model directory, and its weights in parts, so that tests can put them together wrongly."""

import json
from pathlib import Path
from typing import Any

import torch

from glassgpt.checkpoint.directory import save_checkpoint
from glassgpt.config import GPTConfig
from glassgpt.files.manifest import MANIFEST
from glassgpt.model import GPTModel
from glassgpt.text.kinds import train_tokenizer

TINY = GPTConfig(vocab_size=257, context_length=8, embedding_dim=8, n_heads=2, n_layers=1)


def tiny_directory(directory: Path) -> None:
    """Make a model directory as other tools leave it, without a manifest."""
    generator = torch.Generator().manual_seed(1)
    model = GPTModel(TINY)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    save_checkpoint(directory, model, train_tokenizer("bytes", []))
    (directory / MANIFEST).unlink()


def header_and_data(weights: Path) -> tuple[dict[str, Any], bytes]:
    """The header of a safetensors file as values, and the bytes of the tensors."""
    content = weights.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]), content[end:]


def safetensors_of(header: dict[str, Any], data: bytes, twice: str | None = None) -> bytes:
    """A safetensors file of this header and data; `twice` names a tensor to be listed a second time."""
    text = json.dumps(header)
    if twice is not None:
        text = f"{text[:-1]}, {json.dumps(twice)}: {json.dumps(header[twice])}}}"
    return len(text.encode()).to_bytes(8, "little") + text.encode() + data
