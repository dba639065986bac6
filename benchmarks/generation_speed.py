"""Cached greedy generation beside `transformers` generate: GPT-2 124M, random weights, fp32, batch 1.

    python benchmarks/generation_speed.py --rounds 5

The two take turns (A-B-B-A ...) in one process, so that a slow moment of the machine meets both.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

import history

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as our command line does, before torch is imported: for both

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from glassgpt.config import GPTConfig, preset
from glassgpt.generation.generate import generate
from glassgpt.generation.sampling import Sampling
from glassgpt.model import GPTModel

PROMPT_LENGTH = 32


def main() -> None:
    parser = argparse.ArgumentParser(description="Cached generation beside transformers.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--new-tokens", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    ids = torch.randint(50257, (PROMPT_LENGTH,)).tolist()
    runs = {"glassgpt": glassgpt_run(ids), "transformers": transformers_run(ids)}

    for run in runs.values():
        run(8)  # warm up
    speeds: dict[str, list[float]] = {name: [] for name in runs}
    for round_number in range(arguments.rounds):
        order = list(runs) if round_number % 2 == 0 else list(reversed(runs))
        for name in order:
            started = time.perf_counter()
            n_tokens = runs[name](arguments.new_tokens)
            speeds[name].append(n_tokens / (time.perf_counter() - started))

    figures = {name: spread(values) for name, values in speeds.items()}
    ratios = [ours / theirs for ours, theirs in zip(speeds["glassgpt"], speeds["transformers"])]
    figures["ratio"] = spread(ratios)
    print(f"{'tokens/s':14}{'median':>8}{'min':>8}{'max':>8}")
    for name, figure in figures.items():
        print(f"{name:14}{figure['median']:8.2f}{figure['min']:8.2f}{figure['max']:8.2f}")
    history.append("generation_speed", figures | {"options": vars(arguments)})


def glassgpt_run(ids: list[int]) -> Callable[[int], int]:
    model = GPTModel(GPTConfig.from_dict(preset("gpt2-small"))).eval()

    def run(n_tokens: int) -> int:
        return len(list(generate(model, ids, max_new_tokens=n_tokens, sampling=Sampling(temperature=0))))

    return run


def transformers_run(ids: list[int]) -> Callable[[int], int]:
    model = GPT2LMHeadModel(GPT2Config()).eval()  # its defaults: sdpa attention, a cache that grows
    prompt = torch.tensor([ids])

    def run(n_tokens: int) -> int:
        with torch.inference_mode():
            output = model.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                max_new_tokens=n_tokens,
                min_new_tokens=n_tokens,
                do_sample=False,
                pad_token_id=50256,
            )
        return output.shape[1] - len(ids)

    return run


def spread(values: list[float]) -> dict[str, float]:
    middle = statistics.median(values)
    return {"median": round(middle, 3), "min": round(min(values), 3), "max": round(max(values), 3)}


if __name__ == "__main__":
    main()
