"""nanoGPT's documented CPU recipe, run by nanoGPT and by us: wall clock and loss, one after the other, in turn.

The recipe (characters, 4 layers, 4 heads, 128 wide, context 64, batch 12, 2,000 steps, AdamW 1e-3 to 1e-4, beta2
0.99, no dropout) is set by flags in both. Wall clock is of the whole process: import, preparing, evaluating and
saving included. The loss is nats per character over the whole validation split in blocks of 64.

    python benchmarks/nanogpt_recipe.py --nanogpt PATH --text tinyshakespeare.txt --rounds 2
"""

import argparse
import json
import pickle
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import history
import numpy as np

OURS = """
--tokenizer chars --steps 2000 --run.eval-every 250 --run.threads 2
--model.architecture gpt2 --model.n-layers 4 --model.n-heads 4 --model.embedding-dim 128 --model.context-length 64
--model.tie-embeddings true --optim.batch-size 12 --optim.learning-rate 1e-3 --optim.min-learning-rate 1e-4
--optim.beta2 0.99 --optim.warmup 100
""".split()

THEIRS = """
config/train_shakespeare_char.py --device=cpu --compile=False --eval_iters=20 --log_interval=100 --block_size=64
--batch_size=12 --n_layer=4 --n_head=4 --n_embd=128 --max_iters=2000 --lr_decay_iters=2000 --dropout=0.0
""".split()

SCORE = """
import pickle, sys, numpy as np, torch
sys.path.insert(0, sys.argv[1])
from model import GPT, GPTConfig
saved = torch.load(sys.argv[2], map_location="cpu", weights_only=False)
model = GPT(GPTConfig(**saved["model_args"]))
model.load_state_dict(saved["model"])
model.eval()
ids = torch.from_numpy(np.fromfile(sys.argv[3], dtype=np.uint16).astype(np.int64))
total, length = 0.0, model.config.block_size
with torch.no_grad():
    for start in range(0, len(ids) - 1, length):
        inputs, targets = ids[start : start + length][: len(ids) - 1 - start], ids[start + 1 : start + 1 + length]
        total += float(model(inputs[None], targets[None])[1].double()) * len(targets)
print("nats", total / (len(ids) - 1))
"""


def run_ours(text: Path, seed: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "glassgpt", "train", str(text), *OURS, "--out", f"{folder}/run"]
        command += ["--data.cache", f"{folder}/cache", "--seed", str(seed), "--json"]
        began = time.perf_counter()
        found = subprocess.run(command, capture_output=True, text=True, check=True)
        wall = time.perf_counter() - began
        evaluated = [sys.executable, "-m", "glassgpt", "eval", f"{folder}/run", "--json"]
        scored = json.loads(subprocess.run(evaluated, capture_output=True, text=True, check=True).stdout)
        return {"wall_s": wall, "nats": scored["loss"], "training_s": json.loads(found.stdout)["seconds"]}


def run_theirs(checkout: Path, text: Path, seed: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "nanogpt"
        shutil.copytree(checkout, copy, ignore=shutil.ignore_patterns(".git"))
        data = copy / "data" / "shakespeare_char"
        characters = text.read_text(encoding="utf-8")
        ids = {character: number for number, character in enumerate(sorted(set(characters)))}
        numbers = np.array([ids[character] for character in characters], dtype=np.uint16)
        cut = int(len(numbers) * 0.9)
        numbers[:cut].tofile(data / "train.bin")
        numbers[cut:].tofile(data / "val.bin")
        with (data / "meta.pkl").open("wb") as file:
            pickle.dump({"vocab_size": len(ids)}, file)
        train = (copy / "train.py").read_text().replace("torch.manual_seed(1337", f"torch.manual_seed({seed}")
        (copy / "train.py").write_text(train)
        began = time.perf_counter()
        subprocess.run([sys.executable, "train.py", *THEIRS], cwd=copy, capture_output=True, check=True)
        wall = time.perf_counter() - began
        score = [sys.executable, "-c", SCORE, str(copy), str(copy / "out-shakespeare-char" / "ckpt.pt")]
        found = subprocess.run([*score, str(data / "val.bin")], capture_output=True, text=True, check=True)
        return {"wall_s": wall, "nats": float(found.stdout.split()[-1])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nanogpt", type=Path, required=True, help="a checkout of nanoGPT")
    parser.add_argument("--text", type=Path, required=True, help="tinyshakespeare.txt")
    parser.add_argument("--rounds", type=int, default=2, help="each is A B B A")
    arguments = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {"glassgpt": [], "nanogpt": []}
    for number in range(arguments.rounds):
        for name in ("glassgpt", "nanogpt", "nanogpt", "glassgpt"):
            seed = 1337 + number
            if name == "glassgpt":
                result = run_ours(arguments.text, seed)
            else:
                result = run_theirs(arguments.nanogpt, arguments.text, seed)
            found[name].append(result)
            print(name, {key: round(value, 4) for key, value in result.items()}, flush=True)
    figures: dict[str, Any] = {}
    for name, results in found.items():
        for key in ("wall_s", "nats"):
            values = [result[key] for result in results]
            figures[f"{name}_{key}"] = {"median": statistics.median(values), "min": min(values), "max": max(values)}
            print(f"{name:<10}{key:<8}median {statistics.median(values):.4f}  {min(values):.4f} ... {max(values):.4f}")
    ratio = figures["glassgpt_wall_s"]["median"] / figures["nanogpt_wall_s"]["median"]
    figures["wall_ratio"] = ratio
    print(f"wall clock, ours / nanoGPT's: {ratio:.3f}")
    history.append("nanogpt_recipe", figures)


if __name__ == "__main__":
    main()
