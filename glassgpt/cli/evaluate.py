"""`glassgpt eval`: how well a model predicts a text."""

import json
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from glassgpt.cli.process import say_which
from glassgpt.cli.words import command
from glassgpt.config import DataConfig, Device


def evaluate(
    directory: str | None = None,
    /,
    *,
    data: Annotated[list[str] | None, Parameter(allow_leading_hyphen=True, negative="")] = None,
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
    device
        Where to compute.
    trust_code
        Run the code that lies in DIR, where the model is not one of GlassGPT's.
    as_json
        Print one JSON object, and nothing else, on standard output.
    """
    from glassgpt.api.loaded import load

    gpt = load(directory, device=device, trust_code=trust_code)
    if directory is None:
        say_which(gpt.directory)
    if data:
        from glassgpt.api.texts import read_texts

        result = gpt.evaluate(read_texts(data, DataConfig(keep_duplicates=True)).corpus)
        name = ", ".join(data)
    else:
        from glassgpt.api.texts import prepared_of

        result = gpt.evaluate_ids(prepared_of(gpt.directory).val)
        name = "the validation text of its run"
    values = {
        "bits_per_byte": result.bits_per_byte,
        "loss": result.loss,
        "perplexity": result.perplexity,
        "tokens": result.tokens,
        "bytes": result.bytes,
    }
    if as_json:
        print(json.dumps(values))
        return 0
    print(f"{_shown(gpt.directory)} on {name}: {result.tokens:,} tokens, {result.bytes:,} bytes")
    print(f"  bits per byte   {result.bits_per_byte:.4f}")
    print(f"  loss            {result.loss:.4f} nats per token")
    print(f"  perplexity      {result.perplexity:,.2f} per token")
    named = [*([directory] if directory else []), *(["--trust-code"] if trust_code else [])]
    print(f"\nNext: {command('generate', *named)}", file=sys.stderr)
    return 0


def _shown(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_absolute() and path.is_relative_to(Path.cwd()) else path
