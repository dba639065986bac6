"""export(): a model as a directory of its own, without the state of its training, or as one HTML file."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, get_args

import torch

from glassgpt.api.export_html import write_html
from glassgpt.api.exported import SAMPLE as SAMPLE
from glassgpt.api.exported import Exported, ExportFailed, scores, written
from glassgpt.checkpoint.directory import load_model, save_checkpoint
from glassgpt.checkpoint.own_model import own_config
from glassgpt.checkpoint.packed import load_format
from glassgpt.checkpoint.run import RUN_FILE, find_checkpoint
from glassgpt.checkpoint.stored import StoredTensor, stored_weights
from glassgpt.files.manifest import MANIFEST, TRAINER, saved_names
from glassgpt.native.packing import Format as AnyFormat
from glassgpt.quantization.formats import Format
from glassgpt.settings import InputError, shown
from glassgpt.text.tokenizer import Tokenizer

TARGETS = Literal["hf", "html"]
"""What a model can be exported as."""
_PRECISIONS: dict[str, torch.dtype] = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
_NAMES: dict[torch.dtype, Literal["fp32", "bf16", "fp16"]] = {
    torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16",
}  # fmt: skip


def export(
    directory: str | Path | None,
    out: str | Path,
    *,
    format: TARGETS = "hf",  # noqa: A002 (the name of the flag)
    quantize: Format | None = None,
) -> Exported:
    """Write the model that `directory` stands for as the directory `out`, or with "html" as the file `out`.

    A directory has it as it is, for any tool that opens Hugging Face directories; or with `quantize` in 8 or 4 bits,
    for GlassGPT alone. An html is one page in 8 bits that writes in any browser.
    Raises InputError where there is no model, it is quantised already or of the user's own, or `out` is taken;
    SaveError where the system refuses; ExportFailed where what was written is not what was to be.
    """
    if format not in get_args(TARGETS):
        raise InputError(f"format is {format!r}, but must be hf or html")
    source, target = find_checkpoint(directory), Path(out)
    if own_config(source) is not None:
        raise InputError(f"{source} holds a model of your own, which only its own code opens: copy it as it is")
    before = load_format(source)
    if before and quantize:
        raise InputError(f"{source} is quantised to {before} already: take the model that it was made from")
    if format == "html":
        return write_html(source, target, quantize)
    _refuse_to_replace(target, source)

    replaced = _dtype_of(target) if (target / MANIFEST).exists() else None
    stored = stored_weights(source).values()
    precision = _precision(stored)
    tokenizer = Tokenizer.load(source)
    model = load_model(source)
    ids, expected = written(model, tokenizer.end_of_text)
    if not expected.isfinite().all():
        raise InputError(f"{source} computes scores that are no numbers: its weights are damaged, take another")
    save_checkpoint(target, model.to(precision), tokenizer, quantize=quantize)

    found = scores(load_model(target), ids)
    difference, largest = float((expected - found).abs().max()), float(expected.abs().max())
    if not quantize and not difference <= 1e-5 * max(1.0, largest):
        raise ExportFailed(f"{target} computes other scores than {source}, by up to {difference:g}: is its disk sound?")
    return Exported(
        source=source,
        directory=target,
        dtype=quantize or _NAMES[precision],
        rounded_to=quantize or before,
        replaced=replaced,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        bytes_before=sum(tensor.raw().nbytes for tensor in stored),
        bytes_after=sum(tensor.raw().nbytes for tensor in stored_weights(target).values()),
        largest_logit_difference=difference,
        largest_logit=largest,
        same_choices=float((expected.argmax(-1) == found.argmax(-1)).float().mean()),
        round_trip=_round_trip(tokenizer, target),
    )


def _precision(stored: Iterable[StoredTensor]) -> torch.dtype:
    """The one of all tensors; fp32 where they have several."""
    types = {tensor.dtype for tensor in stored}
    return _PRECISIONS.get(types.pop(), torch.float32) if len(types) == 1 else torch.float32


def _dtype_of(directory: Path) -> AnyFormat | Literal["fp16", "damaged"]:
    """How the weights of an export lie there."""
    try:
        return load_format(directory) or _NAMES[_precision(stored_weights(directory).values())]
    except InputError:
        return "damaged"


def _round_trip(tokenizer: Tokenizer, target: Path) -> int:
    """How many ids the sample text has. Raises ExportFailed where the tokenizer in `target` is another one."""
    ids, written = tokenizer.encode(SAMPLE), Tokenizer.load(target)
    if written.encode(SAMPLE) != ids or written.decode(ids) != tokenizer.decode(ids):
        raise ExportFailed(f"the tokenizer in {target} gives other ids than the one it was made from")
    return len(ids)


def _refuse_to_replace(target: Path, source: Path) -> None:
    """Raise InputError where `target` is anything but nothing, an empty folder, or an earlier export."""
    if os.path.realpath(target) == os.path.realpath(source):  # `missing/../source` exists only once it is written
        raise InputError(f"{target} is the model that is being read, so it is not replaced: choose another name")
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    what = f"{target} exists and is no export of GlassGPT, so it is not replaced: choose another name"
    if not (target / MANIFEST).is_file():
        raise InputError(what)
    names = saved_names(target)
    if (target.resolve().parent / RUN_FILE).exists() or any(name.startswith(TRAINER) for name in names):
        raise InputError(what)
    added = sorted({path.relative_to(target).as_posix() for path in target.rglob("*")} - names)
    if added:
        more = f" (and {len(added) - 1} more)" if len(added) > 1 else ""
        held = f"{target} holds {shown(added[0])}{more}, which no export wrote"
        raise InputError(f"{held}, so it is not replaced: move it away, or choose another name")
