"""A model as one HTML file that writes in any browser: its weights in 8 bits, its tokenizer, and a forward pass.

The page is made by `inspection.page`; these are the parts of its data:

    model      JSON: the config, what the model is called and was trained on, the columns that share a scale, the
               tensors in the order in which they lie in `weights`, and the Adler-32 of all of `weights`
    weights    bytes: the vectors in float32; of each matrix the scales in bfloat16; of each the whole numbers in int8,
               row after row, rows filled up to whole groups
    tokenizer  JSON: the pieces in the byte alphabet, and the ids that merges make, the most important first

A browser computes with the whole numbers as the native decoder does (`web/model.js`), so it writes the same text. A
model in int4 keeps its numbers, a byte each.
"""

import base64
import dataclasses
import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassgpt.checkpoint.native_weights import NativeWeights
from glassgpt.config import GPTConfig
from glassgpt.inspection.page import page
from glassgpt.native.decoder import expected_shapes, rotary_tables
from glassgpt.native.packing import GROUPS, whole_numbers
from glassgpt.settings import InputError
from glassgpt.text.alphabet import to_letters
from glassgpt.text.tokenizer import Tokenizer
from glassgpt.text.vocabulary import Vocabulary

WEB = files("glassgpt.interop") / "web"
SCRIPTS, STYLE = ("model.js", "tokenizer.js", "sampling.js", "play.js"), "play.css"
LARGEST = 500_000_000
"""Characters: browsers hold no longer string."""
_BODY = """<main id="glassgpt-model">
<p id="broken" class="card" role="alert">This page did not open in full. The file was cut short on its way, or scripts
are switched off in the program that shows it. Ask for the file again, or open it in a browser.</p>
</main>"""


@dataclass(frozen=True, kw_only=True)
class About:
    """What the page says of its model."""

    name: str
    texts: tuple[str, ...] = ()
    """Names of what it was trained on; empty where nobody knows."""
    bits_per_byte: float | None = None
    date: str = ""
    """When it was trained, as 2026-11-23."""
    example: str = "Once upon a time"
    """A beginning for it to continue."""


@dataclass(frozen=True, kw_only=True)
class WrittenModel:
    """What a page holds, read from its file."""

    config: GPTConfig
    matrices: Mapping[str, NDArray[np.float32]]
    """By the names of our parameters: what the whole numbers and scales stand for."""
    vectors: Mapping[str, NDArray[np.float32]]
    pieces: tuple[bytes, ...]
    merged: tuple[int, ...]


def model_page(config: GPTConfig, weights: NativeWeights, tokenizer: Tokenizer, about: About) -> str:
    """The file's content. The matrices must be in int8 or int4."""
    kind = next(iter(weights.matrices.values())).format
    vectors = {**weights.vectors, **_rotary(config)}
    numbers = {name: whole_numbers(packed) for name, packed in weights.matrices.items()}
    parts = [
        *(vector.astype("<f4") for vector in vectors.values()),
        *((scales.view(np.uint32) >> 16).astype("<u2") for _, scales in numbers.values()),
        *(q for q, _ in numbers.values()),
    ]
    data = b"".join(part.tobytes() for part in parts)
    model = {
        "config": dataclasses.asdict(config),
        "about": dataclasses.asdict(about),
        "n_parameters": sum(m.n_rows * m.n_columns for m in weights.matrices.values())
        + sum(vector.size for vector in weights.vectors.values()),
        "format": kind,
        "group": GROUPS[kind],
        "vectors": {name: vector.size for name, vector in vectors.items()},
        "matrices": {name: [packed.n_rows, packed.n_columns] for name, packed in weights.matrices.items()},
        "adler32": zlib.adler32(data),
    }
    return page(
        f"{about.name}: a language model in one file",
        body=_BODY,
        data={"model": model, "tokenizer": _tokenizer_data(tokenizer.vocabulary), "weights": data},
        styles=_asset(STYLE),
        scripts="".join(map(_asset, SCRIPTS)),
    )


def refuse_too_large(config: GPTConfig) -> None:
    """Raise InputError for a model whose weights, written as text, are more than a browser takes."""
    n_bytes = 0
    for name, shape in expected_shapes(config):
        n_bytes += prod(shape) * (4 if len(shape) == 1 or name == "position_embedding.weight" else 1)
    if n_bytes * 4 // 3 > LARGEST:
        raise InputError(
            f"the page would hold {n_bytes * 4 / 3e6:,.0f} MB of weights, but browsers open no more than "
            f"{LARGEST / 1e6:.0f} MB: take a smaller model, or share it with --format hf"
        )


def read_page(path: Path) -> WrittenModel:
    """What the file holds, as a browser reads it. Raises ValueError where it is damaged."""
    text = path.read_text(encoding="utf-8")
    model, tokenizer = json.loads(_element(text, "model")), json.loads(_element(text, "tokenizer"))
    data = base64.b64decode(_element(text, "weights"), validate=True)
    if zlib.adler32(data) != model["adler32"]:
        raise ValueError(f"the weights in {path} are not those that were written")
    vectors, matrices = _arrays(model, data)
    config = GPTConfig(**model["config"])
    letters = {to_letters(bytes([byte])): byte for byte in range(256)}
    pieces = [bytes(map(letters.__getitem__, piece)) for piece in tokenizer["pieces"].split(" ")]
    for name, number in tokenizer["special"].items():
        pieces[number] = name.encode()
    return WrittenModel(
        config=config, matrices=matrices, vectors=vectors, pieces=tuple(pieces), merged=tuple(tokenizer["merged"])
    )


def merged_ids(vocabulary: Vocabulary) -> tuple[int, ...]:
    """The id that each merge makes, the most important first: all that encoding needs to know of merges."""
    id_of_piece = vocabulary.ordinary()
    return tuple(id_of_piece[left + right] for left, right in vocabulary.merges)


def _rotary(config: GPTConfig) -> dict[str, NDArray[np.float32]]:
    cos, sin = rotary_tables(config)
    return {} if cos is None or sin is None else {"rotary.cos": cos, "rotary.sin": sin}


def _tokenizer_data(vocabulary: Vocabulary) -> dict[str, Any]:
    special = set(vocabulary.special.values())
    pieces = ["" if number in special else to_letters(piece) for number, piece in enumerate(vocabulary.pieces)]
    return {
        "pieces": " ".join(pieces),  # a space has another letter
        "merged": merged_ids(vocabulary),
        "special": dict(vocabulary.special),
        "end_of_text": vocabulary.special[vocabulary.end_of_text],
    }


def _arrays(
    model: Mapping[str, Any], data: bytes
) -> tuple[dict[str, NDArray[np.float32]], dict[str, NDArray[np.float32]]]:
    """The vectors, and what the matrices stand for."""
    at, group = 0, model["group"]

    def take(kind: str, n_rows: int, width: int) -> NDArray[Any]:
        nonlocal at
        found = np.frombuffer(data, kind, n_rows * width, at).reshape(n_rows, width)
        at += found.nbytes
        return found

    vectors = {name: take("<f4", 1, size)[0] for name, size in model["vectors"].items()}
    shapes = {name: (n_rows, -(-n_columns // group)) for name, (n_rows, n_columns) in model["matrices"].items()}
    bits = {name: take("<u2", *shape) for name, shape in shapes.items()}
    matrices: dict[str, NDArray[np.float32]] = {}
    for name, (n_rows, n_groups) in shapes.items():
        scales = (bits[name].astype(np.uint32) << 16).view(np.float32)
        scaled = take("i1", n_rows, n_groups * group).reshape(n_rows, n_groups, group) * scales[:, :, None]
        matrices[name] = scaled.reshape(n_rows, -1)[:, : model["matrices"][name][1]]
    return vectors, matrices


def _element(text: str, name: str) -> str:
    found = re.search(rf'<script type="application/[a-z-]+" id="{name}">([^<]*)</script>', text)
    if found is None:
        raise ValueError(f"it has no part {name}")
    return found[1]


def _asset(name: str) -> str:
    return (WEB / name).read_text(encoding="utf-8")
