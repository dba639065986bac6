"""`glassgpt eval`: how well a model predicts a text."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from glassgpt.cli.process import say_which
from glassgpt.cli.words import command
from glassgpt.config import DataConfig, Device, Dtype

if TYPE_CHECKING:
    from glassgpt.api.gpt import GPT
    from glassgpt.evaluation.bits_per_byte import Evaluation


def evaluate(
    directory: str | None = None,
    /,
    *,
    data: Annotated[list[str] | None, Parameter(allow_leading_hyphen=True, negative="")] = None,
    dtype: Dtype = "auto",
    device: Device = "cpu",
    trust_code: Annotated[bool, Parameter(negative="")] = False,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Measure bits per byte, loss per token and perplexity over ALL of a text.

    Parameters
    ----------
    directory
        A run, a checkpoint, or any Hugging Face directory of a GPT-2, Llama or Qwen3. Left out: the newest run.
    data
        Text files, folders, globs or - for standard input. Left out: the text that a run kept for validation.
    dtype
        Round the weights to bf16 or to whole numbers of 8 or 4 bits, as `generate` does, and say what it costs. auto:
        fp32, or what a quantised directory has.
    device
        Where to compute.
    trust_code
        Run the code that lies in DIR, where the model is not one of GlassGPT's.
    as_json
        Print one JSON object, and nothing else, on standard output.
    """
    from glassgpt.api.loaded import load
    from glassgpt.checkpoint.packed import load_format

    gpt = load(directory, device=device, dtype=dtype, trust_code=trust_code)
    if directory is None:
        say_which(gpt.directory)
    if data:
        from glassgpt.api.texts import read_texts

        corpus, name = read_texts(data, DataConfig(keep_duplicates=True)).corpus, ", ".join(data)

        def measured(gpt: "GPT") -> "Evaluation":
            return gpt.evaluate(corpus)
    else:
        from glassgpt.api.texts import validation_ids

        ids, name = validation_ids(gpt.directory, gpt.tokenizer), "the validation text of its run"

        def measured(gpt: "GPT") -> "Evaluation":
            return gpt.evaluate_ids(ids)

    result, exact = measured(gpt), None
    if dtype not in ("auto", "fp32") and load_format(gpt.directory) is None:
        exact = measured(load(gpt.directory, device=device, dtype="fp32", trust_code=trust_code))
    values = {
        "bits_per_byte": result.bits_per_byte,
        "loss": result.loss,
        "perplexity": result.perplexity,
        "tokens": result.tokens,
        "bytes": result.bytes,
        "dtype": gpt.dtype,
    }
    if exact:
        values |= {"bits_per_byte_fp32": exact.bits_per_byte, "cost_percent": _percent(result, exact)}
    if as_json:
        print(json.dumps(values))
        return 0
    print(f"{_shown(gpt.directory)} on {name}: {result.tokens:,} tokens, {result.bytes:,} bytes")
    print(f"  bits per byte   {result.bits_per_byte:.4f}{'' if gpt.dtype == 'fp32' else f' in {gpt.dtype}'}")
    print(f"  loss            {result.loss:.4f} nats per token")
    print(f"  perplexity      {result.perplexity:,.2f} per token")
    if exact:
        print(f"  {gpt.dtype} costs      {_percent(result, exact):+.3f} %; in fp32 it takes {exact.bits_per_byte:.4f}")
    rounded = ["--dtype", dtype] if dtype != "auto" else []
    named = [*([directory] if directory else []), *(["--trust-code"] if trust_code else [])]
    print(f"\nNext: {command('generate', *named, *rounded)}", file=sys.stderr)
    return 0


def _percent(rounded: "Evaluation", exact: "Evaluation") -> float:
    """By how much more the rounded model needs."""
    return 100 * (rounded.bits_per_byte / exact.bits_per_byte - 1)


def _shown(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_absolute() and path.is_relative_to(Path.cwd()) else path
