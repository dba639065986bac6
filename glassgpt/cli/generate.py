"""`glassgpt generate`: a model writes on."""

import json
import sys
import time
from typing import Annotated

from cyclopts import Parameter

from glassgpt.settings import InputError


def generate(
    directory: str | None = None,
    /,
    *,
    prompt: str = "",
    max_new_tokens: int = 200,
    temperature: float = 0.8,
    top_k: int | None = None,
    top_p: float | None = None,
    num_samples: int = 1,
    seed: int = 1337,
    device: str = "cpu",
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
        cpu, cuda or mps.
    as_json
        Print one JSON object, and nothing else, on standard output.
    """
    if num_samples < 1:
        raise InputError(f"--num-samples is {num_samples}, but must be at least 1")
    from glassgpt.generation.sampling import Sampling

    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
    if prompt == "-":
        prompt = sys.stdin.read()

    from glassgpt.api.loaded import load

    gpt = load(directory, device=device)
    samples = []
    for number in range(num_samples):
        if number and not as_json:
            print("\n---")
        began = time.perf_counter()
        first = began
        ids: list[int] = []
        written: list[str] = []
        if not as_json:
            print(prompt, end="", flush=True)

        def timed(number: int = number, ids: list[int] = ids, began: float = began):
            nonlocal first
            for token in gpt.ids(prompt, max_new_tokens, sampling, number):
                if not ids:
                    first = time.perf_counter()
                ids.append(token)
                yield token

        for piece in gpt.decode_stream(timed()):
            written.append(piece)
            if not as_json:
                print(piece, end="", flush=True)
        ended = time.perf_counter()
        samples.append(
            {
                "text": prompt + "".join(written),
                "ids": ids,
                "tokens_per_s": len(ids) / (ended - began),
                "time_to_first_token_s": first - began,
            }
        )
    if as_json:
        print(json.dumps(samples[0] if num_samples == 1 else samples[0] | {"samples": samples}))
        return 0
    print(flush=True)
    speed = sum(len(sample["ids"]) for sample in samples) / sum(len(s["ids"]) / s["tokens_per_s"] for s in samples if s["ids"])
    first_ms = 1000 * samples[0]["time_to_first_token_s"]
    shown = f" {directory}" if directory else ""
    print(f"\n{speed:.0f} tokens/s, first after {first_ms:.0f} ms. Next: glassgpt eval{shown}", file=sys.stderr)
    return 0
