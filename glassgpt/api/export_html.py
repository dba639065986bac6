"""A model as one HTML file: gathered, written, read again, and compared with the model that it was made from."""

import os
from datetime import date
from pathlib import Path

import numpy as np
import torch

from glassgpt.api.cores import available_cores
from glassgpt.api.exported import SAMPLE, Exported, ExportFailed, scores, written
from glassgpt.checkpoint.directory import load_model
from glassgpt.checkpoint.native_weights import NativeWeights, native_weights
from glassgpt.checkpoint.packed import StoredModel, load_format, matrices, open_stored
from glassgpt.checkpoint.run import RUN_FILE, model_name
from glassgpt.checkpoint.run_settings import read_settings
from glassgpt.checkpoint.stored import WEIGHTS
from glassgpt.files.atomic import write_atomically
from glassgpt.files.reading import read_bytes, read_json
from glassgpt.inspection.page import refuse_target
from glassgpt.interop.html import (
    About,
    WrittenModel,
    merged_ids,
    model_page,
    read_page,
    refuse_too_large,
)
from glassgpt.model import GPTModel
from glassgpt.native.packing import unpack
from glassgpt.quantization.formats import Format
from glassgpt.quantization.modules import refuse_unquantizable
from glassgpt.quantization.panels import packed
from glassgpt.settings import InputError
from glassgpt.text.documents import GIVEN
from glassgpt.text.tokenizer import Tokenizer

_EXAMPLE = 40
"""Characters of the text for the reader to begin with."""


def write_html(source: Path, target: Path, quantize: Format | None) -> Exported:
    """Write the model in `source`, one of GlassGPT's own, as the page `target`. Raises as `export` does."""
    if quantize == "int4":
        raise InputError("quantize is int4, but a page has its weights in int8: leave --quantize out")
    refuse_target(target)
    stored, before, replaced = open_stored(source), load_format(source), target.exists()
    refuse_too_large(stored.config)
    tokenizer, model = Tokenizer.load(source), load_model(source)
    ids, expected = written(model, tokenizer.end_of_text)
    if not expected.isfinite().all():
        raise InputError(f"{source} computes scores that are no numbers: its weights are damaged, take another")
    weights, about = _whole_weights(stored, model), about_model(source)
    write_atomically(target, model_page(stored.config, weights, tokenizer, about).encode())

    page = read_page(target)
    _refuse_another_model(page, weights, tokenizer, target)
    _put_into(model, page)
    found = scores(model, ids)
    return Exported(
        source=source,
        directory=target,
        dtype=before or "int8",
        rounded_to=before or "int8",
        replaced="html" if replaced else None,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        bytes_before=sum(tensor.raw().nbytes for tensor in stored.tensors.values()),
        bytes_after=target.stat().st_size,
        largest_logit_difference=float((expected - found).abs().max()),
        largest_logit=float(expected.abs().max()),
        same_choices=float((expected.argmax(-1) == found.argmax(-1)).float().mean()),
        round_trip=len(tokenizer.encode(SAMPLE)),
        texts=about.texts,
    )


def about_model(source: Path) -> About:
    """What a page says of the model in `source`: more, where it is a checkpoint of a run."""
    trained = date.fromtimestamp((source / WEIGHTS).stat().st_mtime).isoformat()
    place = source.resolve()
    run, name = place.parent, model_name(place)
    if not (run / RUN_FILE).is_file():
        return About(name=name, date=trained)
    return About(
        name=name, texts=_texts(run), bits_per_byte=_score(run, place.name), date=trained, **_example(run)
    )


def _texts(run: Path) -> tuple[str, ...]:
    """The names of its texts, without the folders that they lay in."""
    try:
        given = read_settings(run).text
    except InputError:
        return ()
    names = {"pydoc": "Python's documentation", GIVEN: "a text that was given in Python"}
    names_of = [names.get(text) or Path(text).name for text in map(str, given)]
    return tuple("standard input" if name.startswith("stdin-") else _sound(name) for name in names_of)


def _score(run: Path, step: str) -> float | None:
    """Bits per byte of the checkpoint, where it was measured."""
    try:
        entries = read_json(run / RUN_FILE).values()
        return next((e["val_bpb"] for e in entries if step == f"step-{e['step']:08d}" and e["val_bpb"]), None)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _example(run: Path) -> dict[str, str]:
    """How the last text began that the model wrote while it was trained; nothing where it wrote none."""
    try:
        text = read_bytes(run / "samples.txt").decode("utf-8", errors="replace").rpartition("\n--- step ")[2]
    except (OSError, InputError):
        return {}
    line = next((line for line in text.split("\n")[1:] if len(line.strip()) > 3), "").strip()
    words = " ".join(line.split(" ")[:5])[:_EXAMPLE].strip()
    return {"example": words} if words else {}


def _sound(name: str) -> str:
    """A name that is Unicode: a file's may be any bytes."""
    return os.fsencode(name).decode("utf-8", errors="replace")


def _whole_weights(stored: StoredModel, model: GPTModel) -> NativeWeights:
    """The weights in whole numbers: as they are stored, or `model`'s rounded to 8 bits."""
    if stored.format:
        return native_weights(stored, stored.format, available_cores())
    names = matrices(stored.config)
    for name in names:
        refuse_unquantizable(model.get_parameter(name), name)
    rest = {name: p.detach().numpy() for name, p in model.named_parameters() if name not in names}
    return NativeWeights({name: packed(model.get_parameter(name), "int8") for name in names}, rest)


def _refuse_another_model(page: WrittenModel, weights: NativeWeights, tokenizer: Tokenizer, target: Path) -> None:
    """Raise ExportFailed where the file does not hold, bit for bit, the weights of the int8 path and the tokenizer."""
    same = all(np.array_equal(unpack(matrix), page.matrices[name]) for name, matrix in weights.matrices.items())
    same &= all(np.array_equal(vector.ravel(), page.vectors[name]) for name, vector in weights.vectors.items())
    if not same:
        raise ExportFailed(f"{target} holds other weights than were written: is its disk sound?")
    vocabulary = tokenizer.vocabulary
    given_back = b"".join(page.pieces[token] for token in tokenizer.encode(SAMPLE)).decode()
    if (page.pieces, page.merged, given_back) != (vocabulary.pieces, merged_ids(vocabulary), SAMPLE):
        raise ExportFailed(f"the tokenizer in {target} gives other ids than the one it was made from")


@torch.no_grad()
def _put_into(model: GPTModel, page: WrittenModel) -> None:
    for name, values in (*page.matrices.items(), *page.vectors.items()):
        if not name.startswith("rotary."):  # which follow from the config
            parameter = model.get_parameter(name)
            parameter.copy_(torch.from_numpy(values.copy()).reshape(parameter.shape))
