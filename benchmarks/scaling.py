"""What the planner knows: the scores of many small runs, and the law fitted to them.

    python benchmarks/scaling.py collect --text a.txt b.txt     adds runs to benchmarks/scaling.jsonl (about 40 minutes)
    python benchmarks/scaling.py fit                            writes glassgpt/planning/scaling.json

A run is one (text, vocabulary, size, tokens) with the planner's own recipe. The law stands in
glassgpt/planning/scaling.py.
"""

import argparse
import itertools
import json
import math
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from glassgpt.planning.scaling import Law

RUNS = Path(__file__).parent / "scaling.jsonl"
LAW = Path(__file__).parent.parent / "glassgpt" / "planning" / "scaling.json"
SIZES = ((2, 64), (4, 128), (4, 192), (6, 256))
"""(n_layers, embedding_dim)"""
NAMES = ("e", "a", "alpha", "b", "beta", "c", "gamma", "delta", "kappa", "eta")


def run_one(text: str, tokenizer: str, n_layers: int, width: int, tokens: int, dropout: float) -> dict[str, Any]:
    """One run on one thread, so that two fit the machine; what the law needs to know of it."""
    import glassgpt
    from glassgpt.planning.choose import RECIPE, head_count
    from glassgpt.planning.difficulty import ngram_bits_per_byte
    from glassgpt.planning.parameters import parameters

    context, batch = 256, 4
    model = {
        "architecture": "modern", "n_layers": n_layers, "embedding_dim": width, "n_heads": head_count(width),
        "context_length": context, "tie_embeddings": True, "dropout_rate": dropout,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        run = glassgpt.train(
            text, tokens=tokens, tokenizer=tokenizer, out=f"{folder}/run", model=model,
            data={"cache": f"{folder}/cache"}, optim=RECIPE | {"batch_size": batch, "warmup": 20},
            run={"threads": 1, "eval_every": 10**9, "save_every": 10**9},
        )  # fmt: skip
        settings = json.loads(json.dumps(glassgpt.load(run.directory).model.config.to_dict()))
        facts = json.loads(next(Path(folder).glob("cache/*/prepared.json")).read_text())
    content = Path(text).read_bytes()
    by_component = parameters(glassgpt.GPTConfig.from_dict(settings))
    bytes_per_token = facts["bytes"] / (facts["train_tokens"] + facts["val_tokens"])
    return {
        "text": Path(text).name, "tokenizer": tokenizer, "n_layers": n_layers, "embedding_dim": width,
        "dropout": dropout,
        "blocks": by_component["attention"] + by_component["feed_forward"], "vocab_size": facts["vocab_size"],
        "tokens": run.measured.tokens, "bytes_per_token": bytes_per_token, "unique_bytes": 0.9 * len(content),
        "ngram": ngram_bits_per_byte(content.decode()), "bpb": run.bits_per_byte,
    }  # fmt: skip


def collect(
    texts: list[str], budgets: list[float], tokenizers: list[str], sizes: list[tuple[int, int]], dropouts: list[float]
) -> None:
    """All combinations whose arithmetic, in FLOPs, is about each budget; those there already are passed over."""
    done = {key(json.loads(line)) for line in RUNS.read_text().splitlines()} if RUNS.exists() else set()
    jobs = []
    for text, flops, tokenizer, (layers, width), dropout in itertools.product(
        texts, budgets, tokenizers, sizes, dropouts
    ):
        blocks = layers * 12 * width * width
        tokens = int(flops / (6 * (blocks + 512 * width)) / 1024) * 1024
        if not 300_000 <= tokens <= 12_000_000:
            continue
        job = (text, tokenizer, layers, width, tokens, dropout)
        if (Path(text).name, *job[1:]) not in done:
            jobs.append(job)
    print(f"{len(jobs)} runs")
    with ProcessPoolExecutor(2) as pool, RUNS.open("a") as file:
        for found in pool.map(run_one, *zip(*jobs, strict=True)):
            print(found, flush=True)
            file.write(json.dumps(found) + "\n")
            file.flush()


def key(run: dict[str, Any]) -> tuple[Any, ...]:
    """What makes a run the one it is."""
    return tuple(run[name] for name in ("text", "tokenizer", "n_layers", "embedding_dim", "tokens", "dropout"))


def fit() -> None:
    """Least squares of the relative errors, from many random beginnings, by a plain pattern search."""
    runs = [json.loads(line) for line in RUNS.read_text().splitlines()]
    n = np.array([run["blocks"] for run in runs]) / 1e6
    d = np.array([run["tokens"] * run["bytes_per_token"] for run in runs]) / 1e6
    u = np.array([run["unique_bytes"] for run in runs]) / 1e6
    dropout = np.array([run["dropout"] for run in runs])
    measured = np.array([run["bpb"] / run["ngram"] for run in runs])
    tokenizers = sorted({run["tokenizer"] for run in runs})
    per_token = {
        name: round(float(np.mean([run["bytes_per_token"] for run in runs if run["tokenizer"] == name])), 3)
        for name in tokenizers
    }

    def law_of(point: np.ndarray) -> Law:
        numbers = {name: float(f"{value:.4g}") for name, value in zip(NAMES, np.exp(point), strict=True)}
        return Law(**numbers, bytes_per_token=per_token, runs=len(runs), rms_error=0.0)

    def error(point: np.ndarray) -> float:
        return float(np.mean((law_of(point).ratio(n, d, u, dropout) / measured - 1) ** 2))  # pyrefly: ignore

    random = np.random.default_rng(0)
    best, least = np.zeros(len(NAMES)), math.inf
    for _ in range(40):
        point = np.log([0.6, 0.1, 0.4, 0.3, 0.5, 0.005, 1.0, 0.5, 5.0, 0.1]) + random.normal(0, 0.7, len(NAMES))
        step, here = 0.3, error(point)
        while step > 1e-4:
            trial = point + random.normal(0, step, len(NAMES)) * (random.random(len(NAMES)) < 0.5)
            there = error(trial)
            if there < here:
                point, here, step = trial, there, min(0.5, step * 1.3)
            else:
                step *= 0.985
        if here < least:
            best, least = point, here
    law = replace(law_of(best), rms_error=round(least**0.5, 4))
    errors = law.ratio(n, d, u, dropout) / measured - 1  # pyrefly: ignore
    print(f"{law}\nlargest error {abs(errors).max():.3f}")
    for run, off in sorted(zip(runs, errors, strict=True), key=lambda pair: -abs(pair[1]))[:8]:
        print(f"{off:+.3f} {run}")
    LAW.write_text(json.dumps(asdict(law), indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["collect", "fit"])
    parser.add_argument("--text", nargs="+", default=[])
    parser.add_argument("--flops", type=float, nargs="+", default=[5e12, 2e13])
    parser.add_argument("--tokenizer", nargs="+", default=["bpe:512", "bpe:2048"])
    parser.add_argument("--size", nargs="+", default=[f"{layers}x{width}" for layers, width in SIZES])
    parser.add_argument("--dropout", type=float, nargs="+", default=[0.0])
    arguments = parser.parse_args()
    if arguments.action == "fit":
        fit()
    else:
        sizes = [tuple(map(int, size.split("x"))) for size in arguments.size]
        collect(arguments.text, arguments.flops, arguments.tokenizer, sizes, arguments.dropout)


if __name__ == "__main__":
    main()
