"""The planner's memory and checkpoint sizes beside what training takes: a grid from 0.8M to 124M parameters.

    python benchmarks/plan_memory.py                       # all, some twenty minutes
    python benchmarks/plan_memory.py --cases 3 7 --no-record

Each case is a few steps of `train` in a process of its own, evaluation, sample and checkpoint included. Measured is
the process's peak (VmHWM) less what it held before the model; predicted the total of `plan` less its share for the
interpreter. Both checkpoints are whole directories. Linux alone tells the peak.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import history

GPT2, MODERN = {"architecture": "gpt2"}, {"architecture": "modern", "tie_embeddings": True}
OPENAI = GPT2 | {"qkv_bias": True, "tie_embeddings": True, "vocab_size": 50257}
SMALL = OPENAI | {"embedding_dim": 768, "n_heads": 12, "n_layers": 12}
NATIVE, TORCH = {"kernel": "native"}, {"kernel": "torch"}
FP32, BF16, AGAIN = {"dtype": "fp32"}, {"dtype": "bf16"}, {"recompute": True}


def shape(n_layers: int, width: int, n_heads: int, context_length: int) -> dict[str, int]:
    return {"n_layers": n_layers, "embedding_dim": width, "n_heads": n_heads, "context_length": context_length}


CASES: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ("bpe:512", MODERN | shape(4, 128, 4, 128), {"batch_size": 8, "name": "muon"}, NATIVE | BF16),
    ("bpe:512", GPT2 | shape(4, 128, 4, 64), {"batch_size": 16}, NATIVE | FP32),
    ("bpe:512", GPT2 | shape(4, 128, 4, 256) | {"dropout_rate": 0.1}, {"batch_size": 16}, TORCH | FP32),
    ("bpe:1024", MODERN | shape(6, 192, 6, 256), {"batch_size": 12}, NATIVE | FP32),
    ("bpe:1024", MODERN | shape(6, 256, 8, 128) | {"n_kv_heads": 4}, {"batch_size": 32}, TORCH | FP32),
    ("bpe:1024", GPT2 | shape(6, 256, 8, 256) | {"dropout_rate": 0.1}, {"batch_size": 8, "name": "muon"},
     NATIVE | BF16),
    ("bpe:1024", GPT2 | shape(6, 384, 6, 256), {"batch_size": 16, "name": "muon"}, TORCH | BF16),
    ("bpe:1024", MODERN | shape(6, 384, 6, 256), {"batch_size": 16}, TORCH | BF16 | AGAIN),
    ("bpe:1024", MODERN | shape(7, 448, 7, 256), {"batch_size": 4, "name": "muon"}, NATIVE | BF16),
    ("bpe:1024", GPT2 | shape(8, 512, 8, 512), {"batch_size": 4}, NATIVE | FP32),
    ("bpe:1024", MODERN | shape(8, 512, 8, 512) | {"n_kv_heads": 4, "dropout_rate": 0.1},
     {"batch_size": 8, "accumulation": 4, "name": "muon"}, TORCH | FP32),
    ("bpe:1024", MODERN | shape(10, 640, 10, 512), {"batch_size": 4}, TORCH | BF16),
    ("gpt2", SMALL | {"context_length": 256}, {"batch_size": 4}, TORCH | BF16),
    ("gpt2", SMALL | {"context_length": 256, "dropout_rate": 0.1}, {"batch_size": 2}, TORCH | FP32),
    ("gpt2", SMALL | {"context_length": 512}, {"batch_size": 4, "accumulation": 2, "name": "muon"},
     TORCH | BF16 | AGAIN),
    ("gpt2", SMALL | {"context_length": 1024}, {"batch_size": 2}, TORCH | BF16),
]  # fmt: skip
"""(tokenizer, model, optim, run)"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, nargs="*", help="numbers of the cases, from 1")
    parser.add_argument("--no-record", action="store_true", help="leave history.jsonl as it is")
    parser.add_argument("--case", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(trained(*CASES[arguments.case - 1])))
        return
    wanted = arguments.cases or [*range(1, len(CASES) + 1)]
    print("     params  kernel dtype  batch x context        predicted   measured   error   checkpoint error")
    found: dict[str, dict[str, float]] = {}
    for number in wanted:
        command = [sys.executable, __file__, "--case", str(number)]
        case = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        found[str(number)] = case
        print(line(number, case), flush=True)
    errors = {kind: [abs(case[f"{kind}_error"]) for case in found.values()] for kind in ("memory", "checkpoint")}
    for kind, values in errors.items():
        print(f"{kind}: median {statistics.median(values):.2%}, largest {max(values):.2%} of {len(values)}")
    if not arguments.no_record:
        sums = {f"{kind}_error": {"median": statistics.median(values), "min": min(values), "max": max(values)}
                for kind, values in errors.items()}  # fmt: skip
        history.append("plan_memory", {"threads": 2, "cases": len(found)} | sums | found)


def line(number: int, case: dict[str, Any]) -> str:
    _, model, optim, run = CASES[number - 1]
    parts = f" in {optim['accumulation']}" if "accumulation" in optim else ""
    what = f"{model['architecture']:<6} {run['kernel']:<6} {run['dtype']} {optim['batch_size']:>3} x "
    what += f"{model['context_length']}{parts}{' again' * ('recompute' in run)}{' dropout' * ('dropout_rate' in model)}"
    return (
        f"{number:>2} {case['parameters'] / 1e6:>6.1f}M {what:<43}{case['predicted'] / 1e6:>9,.0f} MB"
        f"{case['measured'] / 1e6:>8,.0f} MB {case['memory_error']:>+7.1%} {case['checkpoint_error']:>+9.2%}"
    )


def trained(tokenizer: str, model: dict[str, Any], optim: dict[str, Any], run: dict[str, Any]) -> dict[str, float]:
    """What was predicted of a case and what it took. Runs in a process of its own."""
    import glassgpt
    from glassgpt.api.train import Silent
    from glassgpt.planning.memory import training_memory
    from glassgpt.text.stories import write_stories
    from glassgpt.training.metrics import resident_bytes

    class Watch(Silent):
        base, start = 0, None

        def phase(self, what: str) -> None:
            if what.startswith("measuring a few steps"):
                self.base = resident_bytes()

        def planned(self, start: Any, *rest: Any) -> None:
            self.start = start

    watch = Watch()
    imported = resident_bytes()
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "stories.txt"
        text.write_text("\n".join(write_stories(4000, seed=7)), encoding="utf-8")
        done = glassgpt.train(
            text, steps=4, tokenizer=tokenizer, out=Path(folder) / "run", model=model, optim={"warmup": 1} | optim,
            run={"threads": 2} | run, data={"cache": folder, "val_fraction": 0.04}, listener=watch,
        )  # fmt: skip
    chosen = watch.start.settings
    predicted = training_memory(chosen.model, chosen.optim, chosen.run, 0)["total"]
    measured = done.measured.memory_bytes - watch.base
    costs = done.predicted.checkpoint_bytes, done.measured.checkpoint_bytes
    return {
        "parameters": done.measured.parameters, "imported": imported, "base": watch.base, "predicted": predicted,
        "measured": measured, "memory_error": predicted / measured - 1, "checkpoint_predicted": costs[0],
        "checkpoint_measured": costs[1], "checkpoint_error": costs[0] / costs[1] - 1,
    }  # fmt: skip


if __name__ == "__main__":
    main()
