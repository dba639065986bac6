"""`glassgpt generate`: a model writes on."""

import dataclasses
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from glassgpt.cli.numbers import Whole
from glassgpt.cli.words import printable
from glassgpt.config import Device
from glassgpt.settings import InputError

if TYPE_CHECKING:
    from glassgpt.api.loaded import GPT
    from glassgpt.generation.sampling import Sampling


def generate(
    directory: str | None = None,
    /,
    *,
    prompt: Annotated[str, Parameter(allow_leading_hyphen=True)] = "",
    max_new_tokens: Whole = 200,
    temperature: float = 0.8,
    top_k: Whole | None = None,
    top_p: float | None = None,
    num_samples: Whole = 1,
    seed: Whole = 1337,
    device: Device = "cpu",
    trust_code: Annotated[bool, Parameter(negative="")] = False,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Let a model write on from a prompt.

    Parameters
    ----------
    directory
        A run, a checkpoint, or any Hugging Face directory of a GPT-2, Llama or Qwen3. Left out: the newest run.
    prompt
        What the text begins with; - reads it from standard input.
    max_new_tokens
        How many tokens to write at most.
    temperature
        Below 1 likely tokens gain, above 1 unlikely ones. 0: always the likeliest (greedy).
    top_k
        Choose among the k likeliest tokens only.
    top_p
        Choose among the fewest likeliest tokens that hold this much probability (nucleus).
    num_samples
        How many texts to write.
    seed
        The same seed writes the same text.
    device
        Where to compute.
    trust_code
        Run the code that lies in DIR, where the model is not one of GlassGPT's.
    as_json
        Print one JSON object, and nothing else, on standard output.
    """
    if num_samples < 1:
        raise InputError(f"--num-samples is {num_samples}, but must be at least 1")
    from glassgpt.generation.sampling import Sampling

    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
    if prompt == "-":
        try:
            prompt = sys.stdin.buffer.read().decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"the prompt is not valid UTF-8 (at byte {error.start}): give it as UTF-8 text") from None

    from glassgpt.api.loaded import load

    gpt = load(directory, device=device, trust_code=trust_code)
    samples = []
    for number in range(num_samples):
        if number and not as_json:
            print("\n---")
        samples.append(_write(gpt, prompt, max_new_tokens, sampling, number, show=not as_json))
    if as_json:
        values = [dataclasses.asdict(sample) for sample in samples]
        print(json.dumps(values[0] if num_samples == 1 else values[0] | {"samples": values}))
        return 0
    n_ids, seconds = sum(len(sample.ids) for sample in samples), sum(sample.seconds for sample in samples)
    first = 1000 * samples[0].time_to_first_token_s
    after = f"glassgpt eval{' ' + directory if directory else ''}"
    print(flush=True)
    print(f"\n{n_ids / seconds:.0f} tokens/s, the first after {first:.0f} ms. Next: {after}", file=sys.stderr)
    return 0


@dataclass(frozen=True)
class Sample:
    """A text that was written, and how fast."""

    text: str
    """The prompt included."""
    ids: list[int]
    """Of the new tokens."""
    seconds: float
    tokens_per_s: float
    time_to_first_token_s: float


def _write(gpt: "GPT", prompt: str, max_new_tokens: int, sampling: "Sampling", sequence: int, show: bool) -> Sample:
    """Let the model write, printing as it goes."""
    began = time.perf_counter()
    ids: list[int] = []
    times: list[float] = []

    new_ids = gpt.ids(prompt, max_new_tokens, sampling, sequence)  # refuses a prompt before anything is printed

    def watched() -> Iterator[int]:
        for token in new_ids:
            ids.append(token)
            times.append(time.perf_counter())
            yield token

    pieces = gpt.decode_stream(watched())
    text = prompt
    if show:
        print(prompt, end="", flush=True)
    for piece in pieces:
        text += piece
        if show:
            print(printable(piece) if sys.stdout.isatty() else piece, end="", flush=True)
    seconds = time.perf_counter() - began
    first = times[0] - began if times else seconds
    return Sample(text, ids, seconds, len(ids) / seconds, first)
