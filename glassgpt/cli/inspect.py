"""`glassgpt inspect`: what a model does with a prompt, in the terminal or as a page."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from glassgpt.cli.numbers import Whole
from glassgpt.cli.process import interruptible_imports, say_which
from glassgpt.cli.prompt import read_prompt
from glassgpt.cli.words import command, size
from glassgpt.config import Device, Dtype
from glassgpt.files.atomic import write_atomically
from glassgpt.inspection.page import refuse_target
from glassgpt.settings import InputError

if TYPE_CHECKING:
    from glassgpt.api.inspected import Inspected

QUIET = 2.0
"""Seconds that ablation may take without a word."""
REPEATED = 200
"""Characters of the prompt that the next command repeats, at most."""


def inspect(
    directory: str | None = None,
    /,
    *,
    prompt: Annotated[str, Parameter(allow_leading_hyphen=True)] = "",
    out: Path | None = None,
    layer: Whole | None = None,
    head: Whole | None = None,
    ablate: Literal["auto", "heads", "layers", "nothing"] = "auto",
    dtype: Dtype = "auto",
    device: Device = "cpu",
    trust_code: Annotated[bool, Parameter(negative="")] = False,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Show what a model does with a prompt: tokens, attention, logit lens, norms, and what it would miss.

    Parameters
    ----------
    directory
        A run, a checkpoint, or any Hugging Face directory of a GPT-2, Llama or Qwen3. Left out: the newest run.
    prompt
        The text to look at; - reads it from standard input. Left out: the token that begins a document.
    out
        Write a page to point at, one .html file that needs no network.
    layer
        Show the heads of this layer, counted from 0.
    head
        Of that layer, show where this head looks, counted from 0.
    ablate
        Of what to measure the loss without it, which takes the most time: every head and layer, layers alone, nothing.
        auto: heads where that takes a few seconds.
    dtype
        What the weights are rounded to. auto: fp32, or what DIR has.
    device
        Where to compute.
    trust_code
        Run the code that lies in DIR, where the model is not one of GlassGPT's.
    as_json
        Print one JSON object, and nothing else, on standard output; of attention, only what --layer and --head name.
    """
    if head is not None and layer is None:
        raise InputError(f"--head is {head}, but a head belongs to a layer: give --layer too")
    if out is not None:
        refuse_target(out)
    text = read_prompt(prompt)
    with interruptible_imports():
        from glassgpt.api.loaded import load

        gpt = load(directory, device=device, dtype=dtype, trust_code=trust_code)
    if layer is not None:
        _check_place(gpt.config.n_layers, gpt.config.n_heads, layer, head)
    with interruptible_imports():
        import glassgpt.api.inspected  # noqa: F401 (PyTorch)
    if directory is None:
        say_which(gpt.directory)
    with _ablation_line() as progress:
        found = gpt.inspect(text, ablate=ablate, progress=progress)
    if out is not None:
        from glassgpt.inspection.xray_page import most_tokens

        content = found.page().encode("utf-8")
        write_atomically(out, content)
        print(f"{out}: {size(len(content))}, for any browser", file=sys.stderr)
        most = most_tokens(gpt.config.n_layers, gpt.config.n_heads)
        if len(found.tokens) > most:
            print(f"without attention, which a page has for at most {most} tokens of this model", file=sys.stderr)
    if as_json:
        print(json.dumps(_values(found, layer, head)))
        return 0
    if out is None:
        from glassgpt.cli.inspect_view import InspectView

        InspectView(found).show(layer, head)
    named = [*([directory] if directory else []), *(["--trust-code"] if trust_code else [])]
    named += ["--dtype", dtype] if dtype != "auto" else []
    said = ["--prompt", text] if text and prompt != "-" and len(text) <= REPEATED and text.isprintable() else []
    following = command("inspect", *named, *said, "--out", "page.html") if out is None else ""
    print(f"\nNext: {following or command('generate', *named, *said)}", file=sys.stderr)
    return 0


@contextmanager
def _ablation_line() -> Iterator[Callable[[int, int], None] | None]:
    """Inside, a terminal has a line with how far the ablation is, once it has taken `QUIET` seconds."""
    if not sys.stderr.isatty():
        yield None
        return
    began, said = time.perf_counter(), ""

    def show(done: int, n_parts: int) -> None:
        nonlocal said
        if time.perf_counter() - began > QUIET:
            said = f"the loss without each part of the model: {done} of {n_parts}"
            print(f"\r\x1b[2K{said}", end="", file=sys.stderr, flush=True)

    try:
        yield show
    finally:
        if said:
            print("\r\x1b[2K", end="", file=sys.stderr, flush=True)


def _check_place(n_layers: int, n_heads: int, layer: int, head: int | None) -> None:
    for name, given, n in (("layer", layer, n_layers), ("head", head, n_heads)):
        if given is not None and not 0 <= given < n:
            raise InputError(f"--{name} is {given}, but the model has the {name}s 0 to {n - 1}")


def _values(found: "Inspected", layer: int | None, head: int | None) -> dict[str, Any]:
    """The X-ray as plain values, ids also as texts; what is no number is null."""
    arrays = {name: value for name, value in vars(found.xray).items() if name != "attention"}
    values = {name: None if array is None else _plain(array.tolist()) for name, array in arrays.items()}
    named = ("top_ids", "lens_ids", "neighbour_ids")
    texts = {name.replace("_ids", "_tokens"): _texts(values[name], found) for name in named}
    about: dict[str, Any] = {"model": str(found.directory), **found.about, "tokens": found.tokens}
    if layer is not None:
        shown = found.xray.attention[layer] if head is None else found.xray.attention[layer, head]
        about |= {"layer": layer, "head": head, "attention": shown.tolist()}
    return about | values | texts


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return None if value != value else value  # nan is no JSON


def _texts(ids: Any, found: "Inspected") -> Any:
    return [_texts(one, found) for one in ids] if isinstance(ids, list) else found.text_of(ids)
