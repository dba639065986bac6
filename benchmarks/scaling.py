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
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from glassgpt.planning.difficulty import Difficulty, difficulty
from glassgpt.planning.scaling import Law
from glassgpt.text.corpus import Corpus

RUNS = Path(__file__).parent / "scaling.jsonl"
LAW = Path(__file__).parent.parent / "glassgpt" / "planning" / "scaling.json"
SIZES = ((2, 64), (4, 128), (4, 192), (6, 256))
"""(n_layers, embedding_dim)"""
START = {
    "e": 0.1, "a": 0.3, "alpha": 0.2, "b": 0.5, "beta": 0.3, "c": 0.03, "gamma": 1.0, "delta": 0.5, "kappa": 7.0,
    "eta": 0.7,
}  # fmt: skip
"""Where the fit begins, about; these are above 0."""
OUTLIER = 0.03
"""Relative errors beyond this count by their size, not its square: some texts are unlike all others."""
POWERS = {"g": 0.95, "z": 0.25, "r": -0.2, "s": 0.2, "q": -0.4}
"""These may have either sign."""


def run_one(text: str, tokenizer: str, n_layers: int, width: int, tokens: int, dropout: float) -> dict[str, Any]:
    """One run on one thread, so that two fit the machine; what the law needs to know of it."""
    import glassgpt
    from glassgpt.planning.choose import RECIPE, head_count
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
        **asdict(difficulty(Corpus.of([content.decode()]))), "bpb": run.bits_per_byte,
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
        if not 300_000 <= tokens <= 20_000_000:
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


def fit(restarts: int = 8, steps: int = 4000) -> None:
    """The least Huber loss of the relative errors, by Adam on logarithms of constants, from several beginnings."""
    runs = [json.loads(line) for line in RUNS.read_text().splitlines()]

    def column(of: Callable[[dict[str, Any]], float]) -> torch.Tensor:
        return torch.tensor([of(run) for run in runs], dtype=torch.float64)

    n, d, u = (
        column(of) / 1e6
        for of in (lambda r: r["blocks"], lambda r: r["tokens"] * r["bytes_per_token"], lambda r: r["unique_bytes"])
    )
    t, dropout, measured = (column(lambda r, name=name: r[name]) for name in ("bytes_per_token", "dropout", "bpb"))
    text = Difficulty(ngram=column(lambda r: r["ngram"]), deflated=column(lambda r: r["deflated"]))
    per_token = {
        name: round(float(np.mean([run["bytes_per_token"] for run in runs if run["tokenizer"] == name])), 3)
        for name in sorted({run["tokenizer"] for run in runs})
    }
    rest = {"bytes_per_token": per_token, "runs": len(runs)}

    def errors(logs: torch.Tensor, powers: torch.Tensor) -> torch.Tensor:
        values = dict(zip(START, logs.exp(), strict=True)) | dict(zip(POWERS, powers, strict=True))
        law = Law(**values, **rest, rms_error=0.0)
        return law.bits_per_byte(text, n, d, u, t, dropout) / measured - 1

    best, found = math.inf, (torch.empty(0), torch.empty(0))
    generator = torch.Generator().manual_seed(0)
    for _ in range(restarts):
        noise = torch.randn(len(START), generator=generator, dtype=torch.float64)
        logs = (torch.tensor([*START.values()], dtype=torch.float64).log() + 0.4 * noise).requires_grad_()
        powers = torch.tensor([*POWERS.values()], dtype=torch.float64, requires_grad=True)
        adam = torch.optim.Adam([logs, powers], lr=0.02)
        decay = torch.optim.lr_scheduler.LinearLR(adam, 1.0, 0.01, steps)
        for _ in range(steps):
            adam.zero_grad()
            off = errors(logs, powers)
            loss = torch.nn.functional.huber_loss(off, torch.zeros_like(off), delta=OUTLIER)
            loss.backward()
            adam.step()
            decay.step()
        if loss.item() < best:
            best, found = loss.item(), (logs.detach(), powers.detach())
    off = errors(*found)
    constants = {**dict(zip(START, found[0].exp().tolist())), **dict(zip(POWERS, found[1].tolist()))}
    law = Law(
        **{name: float(f"{value:.4g}") for name, value in constants.items()}, **rest,
        rms_error=round(float(off.square().mean() ** 0.5), 4),
    )  # fmt: skip
    print(f"{law}\nlargest error {float(off.abs().max()):.3f}")
    for run, error in sorted(zip(runs, off.tolist(), strict=True), key=lambda pair: -abs(pair[1]))[:8]:
        print(f"{error:+.3f} {run}")
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
