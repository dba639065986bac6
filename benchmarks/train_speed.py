"""Steps of training, ours and our peers', with the same architecture, batch and optimiser: speed and peak memory.

    python benchmarks/train_speed.py --nanogpt PATH --cases 124m 0.8m --rounds 3

Each contender trains in a process of its own and waits while the others have their turn (A B C C B A ...), so that a
slow moment of the machine meets all. Dropout is 0, and every step is forward, backward, clip and AdamW. Ours goes the
whole way of `glassgpt train`, whose own rules choose precision and kernels; it also draws its batches. What differs:
our GPT-2 always has biases in the feed-forward, nanoGPT's small cases have none; LitGPT has rotary positions and an
output head of its own.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import history


@dataclass(frozen=True)
class Case:
    """A model and its batch."""

    layers: int
    width: int
    heads: int
    context: int
    batch: int
    vocab: int
    bias: bool
    turn: int
    """Steps in a turn."""


CASES = {
    "124m": Case(12, 768, 12, 256, 4, 50257, True, 2),
    "384": Case(6, 384, 6, 256, 16, 65, False, 4),
    "0.8m": Case(4, 128, 4, 64, 12, 65, False, 100),
}
OURS = {"glassgpt": {}, "glassgpt-fp32": {"dtype": "fp32"}, "glassgpt-memory": {"recompute": True}}
THEIRS = ("nanogpt", "nanogpt-fused", "nanogpt-compiled", "transformers", "litgpt")
BEST_PEER = "nanogpt-fused"
"""Whom the ratios are with, where it takes part; else the first peer."""
THREADS = 2


def glassgpt_steps(case: Case, turns: Iterator[None], run: dict[str, Any]) -> None:
    """Train as `glassgpt train` does; a turn begins and ends between two steps."""
    import random
    import string

    import glassgpt
    from glassgpt.api.train import Silent

    class Turns(Silent):
        def stepped(self, metrics: Any) -> None:
            next(turns)

    model = {
        "architecture": "gpt2", "n_layers": case.layers, "embedding_dim": case.width, "n_heads": case.heads,
        "context_length": case.context, "qkv_bias": case.bias, "tie_embeddings": True,
    }  # fmt: skip
    signs = string.ascii_letters + string.digits + " .\n"  # 65
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text.txt"
        text.write_text("".join(random.Random(0).choices(signs, k=200_000)))
        glassgpt.train(
            text,
            steps=1_000_000,
            tokenizer="chars" if case.vocab == len(signs) else "gpt2",
            out=Path(folder) / "run",
            model=model | ({"vocab_size": case.vocab} if case.vocab > len(signs) + 256 else {}),
            data={"cache": f"{folder}/cache"},
            optim={"name": "adamw", "batch_size": case.batch, "learning_rate": 1e-4},
            run={"threads": THREADS, "eval_every": 1_000_000} | run,
            listener=Turns(),
        )


def torch_steps(case: Case, turns: Iterator[None], loss_of: Callable[[Any, Any], Any], model: Any) -> None:
    """The loop that a user of nanoGPT or transformers has: random ids, loss, gradients, clip, AdamW."""
    import torch

    groups = [
        {"params": [p for p in model.parameters() if p.dim() >= 2], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-4, betas=(0.9, 0.95), fused=model.fused)
    while True:
        ids = torch.randint(case.vocab, (case.batch, case.context + 1))
        loss_of(ids[:, :-1].contiguous(), ids[:, 1:].contiguous()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        next(turns)


def nanogpt_steps(case: Case, turns: Iterator[None], name: str, checkout: str) -> None:
    import torch

    sys.path.insert(0, checkout)
    from model import GPT, GPTConfig

    config = GPTConfig(case.context, case.vocab, case.layers, case.heads, case.width, 0.0, case.bias)
    model = GPT(config)
    model.fused = name != "nanogpt"  # its own choice on the CPU is PyTorch's plain AdamW
    call = torch.compile(model) if name == "nanogpt-compiled" else model
    torch_steps(case, turns, lambda ids, targets: call(ids, targets)[1], model)


def transformers_steps(case: Case, turns: Iterator[None]) -> None:
    import torch.nn.functional as F
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=case.vocab, n_positions=case.context, n_embd=case.width, n_layer=case.layers,
            n_head=case.heads, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        )
    )  # fmt: skip
    model.fused = True
    model.train()
    torch_steps(
        case, turns, lambda ids, targets: F.cross_entropy(model(ids).logits.flatten(0, 1), targets.flatten()), model
    )


def litgpt_steps(case: Case, turns: Iterator[None]) -> None:
    import torch.nn.functional as F
    from litgpt import GPT, Config

    model = GPT(
        Config(
            block_size=case.context, vocab_size=case.vocab, padded_vocab_size=case.vocab, n_layer=case.layers,
            n_head=case.heads, n_embd=case.width, parallel_residual=False, bias=case.bias, lm_head_bias=False,
            norm_class_name="LayerNorm", mlp_class_name="GptNeoxMLP", intermediate_size=4 * case.width,
            gelu_approximate="tanh",
        )
    )  # fmt: skip
    model.fused = True
    torch_steps(case, turns, lambda ids, targets: F.cross_entropy(model(ids).flatten(0, 1), targets.flatten()), model)


def contend(name: str, case: Case, checkout: str) -> None:
    """In a contender's process: a turn for each number of steps read, answered by its seconds and the peak so far."""

    def turns() -> Iterator[None]:
        for line in sys.stdin:
            began = time.perf_counter()
            for _ in range(int(line)):
                yield
            from glassgpt.training.metrics import peak_bytes

            print(json.dumps([time.perf_counter() - began, peak_bytes()]), file=answers, flush=True)
        os._exit(0)

    answers, sys.stdout = sys.stdout, sys.stderr
    turn = turns()
    if name in OURS:
        glassgpt_steps(case, turn, OURS[name])
        return
    import torch

    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    if name.startswith("nanogpt"):
        nanogpt_steps(case, turn, name, checkout)
    elif name == "transformers":
        transformers_steps(case, turn)
    else:
        litgpt_steps(case, turn)


class Contender:
    """A contender's process, seen from outside."""

    def __init__(self, name: str, case: str, checkout: Path | None) -> None:
        command = [sys.executable, __file__, "--contender", name, "--cases", case, "--nanogpt", str(checkout)]
        environment = os.environ | {"GOMP_SPINCOUNT": "1000"}  # as our command line does: for all
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.seconds: list[float] = []
        self.peak = 0

    def turn(self, n_steps: int) -> float:
        """Seconds a step."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{n_steps}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"{' '.join(map(str, self.process.args))} ended before its turn")  # pyrefly: ignore
        seconds, self.peak = json.loads(answer)
        return seconds / n_steps

    def end(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def measure(case_name: str, names: list[str], rounds: int, checkout: Path | None) -> dict[str, Any]:
    case = CASES[case_name]
    contenders = {name: Contender(name, case_name, checkout) for name in names}
    for contender in contenders.values():
        contender.turn(2)
    for number in range(2 * rounds):
        for name in names if number % 2 == 0 else reversed(names):
            contenders[name].seconds.append(contenders[name].turn(case.turn))
    for contender in contenders.values():
        contender.end()
    peers = [name for name in names if name in THEIRS]
    reference = contenders[BEST_PEER if BEST_PEER in peers else (peers or names)[0]]
    figures = {}
    for name, contender in contenders.items():
        milliseconds = [1000 * seconds for seconds in contender.seconds]
        middle = statistics.median(milliseconds)
        figures[name] = {
            "ms": {"median": round(middle, 2), "min": round(min(milliseconds), 2), "max": round(max(milliseconds), 2)},
            "tokens_per_s": round(case.batch * case.context / middle * 1000, 1),
            "speed_ratio": round(statistics.median(b / a for a, b in zip(contender.seconds, reference.seconds)), 3),
            "peak_bytes": contender.peak,
            "memory_ratio": round(contender.peak / reference.peak, 3),
        }
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nanogpt", type=Path, help="a checkout of nanoGPT")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--contenders", nargs="+", choices=[*OURS, *THEIRS])
    parser.add_argument("--compile", action="store_true", help="nanoGPT compiled as well")
    parser.add_argument("--rounds", type=int, default=3, help="each is A B B A")
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contender:
        contend(arguments.contender, CASES[arguments.cases[0]], str(arguments.nanogpt))
        return
    names = arguments.contenders or ["glassgpt", *(["nanogpt", BEST_PEER] if arguments.nanogpt else []), "transformers"]
    names += ["nanogpt-compiled"] if arguments.compile else []
    found = {}
    for case in arguments.cases:
        found[case] = measure(case, names, arguments.rounds, arguments.nanogpt)
        print(f"{case:<18}{'ms a step':>10}{'min':>9}{'max':>9}{'tokens/s':>10}{'speed':>8}{'GB':>8}{'memory':>8}")
        for name, row in found[case].items():
            ms = row["ms"]
            print(
                f"  {name:<16}{ms['median']:>10.1f}{ms['min']:>9.1f}{ms['max']:>9.1f}{row['tokens_per_s']:>10,.0f}"
                f"{row['speed_ratio']:>7.2f}x{row['peak_bytes'] / 1e9:>8.2f}{row['memory_ratio']:>7.2f}x"
            )
    history.append("train_speed", {"rounds": arguments.rounds, "threads": THREADS, "cases": found})


if __name__ == "__main__":
    main()
