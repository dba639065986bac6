"""What each tool's best model scores after the same wall clock: bits per byte on the last tenth of a text.

    python benchmarks/quality_per_minute.py --text tinyshakespeare.txt --minutes 1 --nanogpt PATH --seeds 5
    python benchmarks/quality_per_minute.py --text a.txt b.txt --minutes 1 2 5 --contenders glassgpt

Wall clock is of the whole process. Ours gets `glassgpt train TEXT --minutes M` and nothing else, except where
--tokenizer is given. nanoGPT's own train.py gets its documented CPU model (0.8M, characters) and, for budgets of more
than five minutes, twice its context and batch; transformers and litgpt, which bring models and leave the loop to the
user, get a GPT-2 and a GPT-NeoX of that size, fused AdamW, warm-up and a cosine over the wall clock. Each of them is
trained at three learning rates, the best counts, and its budget is --peer-times that of ours. Where other work runs
beside it, nanoGPT may be given --iterations counted on an idle machine before: what it learns depends on them alone.
"""

import argparse
import json
import math
import pickle
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import history
import numpy as np
from nanogpt_recipe import SCORE

LEARNING_RATES = (1e-3, 3e-3, 6e-3)

LIBRARY = """
import math, sys, time, numpy as np, torch, torch.nn.functional as F
began = time.time() - 2.0  # the interpreter and torch have been loaded
library, folder, vocab_size, seconds, learning_rate, seed = sys.argv[1:]
vocab_size, seconds, learning_rate = int(vocab_size), float(seconds), float(learning_rate)
torch.manual_seed(int(seed)); torch.set_num_threads(2)
layers, heads, width, length, batch = 4, 4, 128, 64 if seconds <= 300 else 128, 12 if seconds <= 300 else 24
if library == "transformers":
    from transformers import GPT2Config, GPT2LMHeadModel
    zero = dict(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=vocab_size, n_positions=length, n_embd=width, n_layer=layers,
                                       n_head=heads, **zero))
    logits_of = lambda ids: model(ids, use_cache=False).logits
else:
    from litgpt import GPT, Config
    model = GPT(Config(block_size=length, vocab_size=vocab_size, padded_vocab_size=vocab_size, n_layer=layers,
                       n_head=heads, n_embd=width))
    logits_of = model
train, val = (torch.from_numpy(np.fromfile(f"{folder}/{part}.bin", dtype=np.uint16).astype(np.int64))
              for part in ("train", "val"))
optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.99), weight_decay=0.1, fused=True)
model.train()
step = 0
while True:
    done = (time.time() - began) / (seconds - 3.0)  # the evaluation takes the rest
    if done >= 1:
        break
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * min(1.0, (step + 1) / 100) * (0.1 + 0.45 * (1 + math.cos(math.pi * done)))
    starts = torch.randint(len(train) - length, (batch, 1)) + torch.arange(length + 1)
    windows = train[starts]
    logits = logits_of(windows[:, :-1])
    loss = F.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    step += 1
model.eval()
total = 0.0
with torch.no_grad():
    whole = (len(val) - 1) // length * length
    for start in range(0, whole, 64 * length):
        end = min(start + 64 * length, whole)
        logits = logits_of(val[start:end].view(-1, length))
        total += float(F.cross_entropy(logits.flatten(0, 1), val[start + 1 : end + 1], reduction="sum"))
print("nats", total / whole)
"""


def glassgpt(text: Path, minutes: float, seed: int, tokenizer: str | None) -> dict[str, float]:
    """Our run: wall clock and bits per byte as `glassgpt eval` has them."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "glassgpt", "train", str(text), "--minutes", f"{minutes:g}", "--json"]
        command += ["--out", f"{folder}/run", "--data.cache", f"{folder}/cache", "--seed", str(seed)]
        command += ["--tokenizer", tokenizer] if tokenizer else []
        began = time.perf_counter()
        found = subprocess.run(command, capture_output=True, text=True, check=True)
        wall = time.perf_counter() - began
        evaluated = [sys.executable, "-m", "glassgpt", "eval", f"{folder}/run", "--json"]
        scored = json.loads(subprocess.run(evaluated, capture_output=True, text=True, check=True).stdout)
        predicted = json.loads(found.stdout).get("predicted", {})
    return {"wall_s": wall, "bpb": scored["bits_per_byte"], "predicted_bpb": predicted.get("bits_per_byte") or math.nan}


class Characters:
    """A text as characters, split by position, as nanoGPT's own preparation has it."""

    def __init__(self, text: Path, folder: Path) -> None:
        characters = text.read_text(encoding="utf-8")
        ids = {character: number for number, character in enumerate(sorted(set(characters)))}
        numbers = np.array([ids[character] for character in characters], dtype=np.uint16)
        cut = int(len(numbers) * 0.9)
        numbers[:cut].tofile(folder / "train.bin")
        numbers[cut:].tofile(folder / "val.bin")
        self.vocab_size = len(ids)
        held_out = characters[cut:]
        self.bytes_per_character = len(held_out.encode()) / len(held_out)
        with (folder / "meta.pkl").open("wb") as file:
            pickle.dump({"vocab_size": self.vocab_size}, file)

    def bits_per_byte(self, nats: float) -> float:
        return nats / math.log(2) / self.bytes_per_character


def nanogpt(
    checkout: Path, text: Path, seconds: float, learning_rate: float, seed: int, iterations: int | None
) -> dict[str, float]:
    """nanoGPT's train.py, its number of iterations set so that it ends in time by a short run before (not counted).

    With `iterations` it does so many, however long that takes.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "nanogpt"
        shutil.copytree(checkout, copy, ignore=shutil.ignore_patterns(".git"))
        data = copy / "data" / "shakespeare_char"
        characters = Characters(text, data)
        train = (copy / "train.py").read_text().replace("torch.manual_seed(1337", f"torch.manual_seed({seed}")
        (copy / "train.py").write_text(train)
        length, batch = (64, 12) if seconds <= 300 else (128, 24)

        def run(iterations: int) -> float:
            flags = (
                "config/train_shakespeare_char.py --device=cpu --compile=False --eval_iters=1 --log_interval=1000 "
                f"--block_size={length} --batch_size={batch} --n_layer=4 --n_head=4 --n_embd=128 --dropout=0.0 "
                f"--max_iters={iterations} --lr_decay_iters={iterations} --eval_interval={iterations} "
                f"--learning_rate={learning_rate} --min_lr={learning_rate / 10} --always_save_checkpoint=True"
            )
            began = time.perf_counter()
            subprocess.run([sys.executable, "train.py", *flags.split()], cwd=copy, capture_output=True, check=True)
            return time.perf_counter() - began

        if iterations is None:
            short, long = run(20), run(220)
            iterations = max(20, int((seconds - short) / (long - short) * 200))
        wall = run(iterations)
        score = [sys.executable, "-c", SCORE, str(copy), str(copy / "out-shakespeare-char" / "ckpt.pt")]
        found = subprocess.run([*score, str(data / "val.bin")], capture_output=True, text=True, check=True)
    score = characters.bits_per_byte(float(found.stdout.split()[-1]))
    return {"wall_s": wall, "bpb": score, "iterations": iterations}


def library(name: str, text: Path, seconds: float, learning_rate: float, seed: int) -> dict[str, float]:
    """A model of transformers or litgpt in a plain loop."""
    with tempfile.TemporaryDirectory() as folder:
        characters = Characters(text, Path(folder))
        numbers = [str(value) for value in (characters.vocab_size, seconds, learning_rate, seed)]
        began = time.perf_counter()
        command = [sys.executable, "-c", LIBRARY, name, folder, *numbers]
        found = subprocess.run(command, capture_output=True, text=True, check=True)
        wall = time.perf_counter() - began
    return {"wall_s": wall, "bpb": characters.bits_per_byte(float(found.stdout.split()[-1]))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, nargs="+", required=True)
    parser.add_argument("--minutes", type=float, nargs="+", required=True)
    parser.add_argument("--peer-times", type=float, default=1.0, help="the peers' budget in budgets of ours")
    parser.add_argument("--contenders", nargs="+", default=["glassgpt", "nanogpt", "transformers", "litgpt"])
    parser.add_argument("--learning-rates", type=float, nargs="+", default=LEARNING_RATES)
    parser.add_argument("--nanogpt", type=Path, help="a checkout of nanoGPT")
    parser.add_argument("--iterations", type=int, help="of nanoGPT: as many as the time allows on an idle machine")
    parser.add_argument("--tokenizer", help="for ours, instead of its own choice")
    parser.add_argument("--seeds", type=int, default=5, help="ours; the peers' best learning rate has one")
    arguments = parser.parse_args()
    for text in arguments.text:
        for minutes in arguments.minutes:
            figures = {"text": text.name, "minutes": minutes, "peer_times": arguments.peer_times}
            figures |= measure(arguments, text, minutes)
            print(json.dumps(figures))
            history.append("quality_per_minute", figures)


def measure(arguments: argparse.Namespace, text: Path, minutes: float) -> dict[str, object]:
    """All contenders on one text and budget; ours is spread between the peers' runs."""
    peers = [name for name in arguments.contenders if name != "glassgpt"]
    seconds = 60 * minutes * arguments.peer_times
    jobs: list[tuple[str, float]] = [(name, rate) for name in peers for rate in arguments.learning_rates]
    own = [("glassgpt", 1337.0 + n) for n in range(arguments.seeds)] if "glassgpt" in arguments.contenders else []
    while own:  # interleaved, so that a drift of the machine meets all
        jobs.insert(len(jobs) * len(own) // max(1, arguments.seeds), own.pop())
    found: dict[str, list[dict[str, float]]] = {}
    for name, value in jobs:
        if name == "glassgpt":
            result = glassgpt(text, minutes, int(value), arguments.tokenizer)
        elif name == "nanogpt":
            rate = {"learning_rate": value}
            result = nanogpt(arguments.nanogpt, text, seconds, value, 1337, arguments.iterations) | rate
        else:
            result = library(name, text, seconds, value, 1337) | {"learning_rate": value}
        print(f"{text.name} {minutes:g} min {name} {result}", flush=True)
        found.setdefault(name, []).append(result)
    figures: dict[str, object] = {}
    for name, results in found.items():
        scores = [result["bpb"] for result in results]
        best = {"best": min(scores)} if name != "glassgpt" else {"median": statistics.median(scores)}
        walls = [result["wall_s"] for result in results]
        spread = {"min": min(scores), "max": max(scores), "wall_s": [min(walls), max(walls)]}
        figures[name] = best | spread | {"runs": results}
    return figures


if __name__ == "__main__":
    main()
