"""`glassgpt export`: a model as a directory of its own, or as one HTML file."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from glassgpt.cli.process import say_which
from glassgpt.cli.words import command, printable, size

if TYPE_CHECKING:
    from glassgpt.api.export import Exported


def export(
    directory: str | None = None,
    /,
    *,
    out: Path,
    target: Annotated[Literal["hf", "html"], Parameter(name="--format")] = "hf",
    quantize: Literal["int8", "int4"] | None = None,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Write a model as a directory of its own, or as one HTML file that writes, and prove that it is the same.

    Parameters
    ----------
    directory
        A run, a checkpoint, or any Hugging Face directory of a GPT-2, Llama or Qwen3. Left out: the newest run.
    out
        What to write: a directory, new, empty or an earlier export; for html a file such as model.html.
    target
        hf: a Hugging Face directory, without the state of the training. html: one offline page with the model in 8
        bits, which writes in any browser; whoever has it can make it repeat parts of the text it was trained on.
    quantize
        Round the weights to 8 or 4 bits. Only GlassGPT opens such a directory. html has 8 in any case.
    as_json
        Print one JSON object, and nothing else, on standard output.
    """
    from glassgpt.api.export import export as write

    done = write(directory, out, format=target, quantize=quantize)
    if directory is None:
        say_which(done.source)
    if as_json:
        print(json.dumps(_values(done)))
        return 0
    before, after, bits = done.bytes_before, done.bytes_after, 8 * done.bytes_after / done.parameters
    difference, largest = done.largest_logit_difference, done.largest_logit
    print(f"{done.source} as {done.dtype} in {done.directory}")
    if done.replaced:
        print(f"  replaced     the {done.replaced} export that was there")
    kept = f"now {size(after)}: {bits:.3g} bits a parameter" if target == "hf" else f"the page {size(after)}"
    print(f"  weights      {size(before)}, {kept}")
    print(f"  scores       the largest difference is {difference:.3g}, where the largest score is {largest:.3g}")
    if target == "hf" and done.rounded_to and not quantize:
        print(f"  rounding     the weights stay rounded to {done.rounded_to}, as they were")
    print(f"  likeliest    token the same at {100 * done.same_choices:.3g} % of positions")
    print(f"  tokenizer    all {done.round_trip} ids of a sample come back")
    if target == "html":
        text = ", ".join(map(printable, done.texts)) or "the text that it was trained on"
        print("  opens in     any browser, offline, also on a phone")
        print(f"  contains     a model of {text}: whoever has the file can make it repeat parts of that")
        print(f"\nNext: open {out} in a browser", file=sys.stderr)
        return 0
    if quantize:
        print("  opens in     GlassGPT alone; without --quantize, in any Hugging Face tool")
    print(f"\nNext: {command('generate', out)}", file=sys.stderr)
    return 0


def _values(done: "Exported") -> dict[str, object]:
    return {
        "directory": str(done.directory),
        "dtype": done.dtype,
        "rounded_to": done.rounded_to,
        "replaced": done.replaced,
        "parameters": done.parameters,
        "bytes_before": done.bytes_before,
        "bytes_after": done.bytes_after,
        "largest_logit_difference": done.largest_logit_difference,
        "largest_logit": done.largest_logit,
        "same_choices": done.same_choices,
        "round_trip": done.round_trip,
        "texts": list(done.texts),
    }
