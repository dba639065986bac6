"""Peak memory of a GPT-2 124M training step, batch 4 x 256, ours and nanoGPT's with the fused optimiser.

Each in a process of its own: three whole steps (forward, backward, clip, AdamW), then the peak resident memory.

    python benchmarks/training_memory.py --nanogpt PATH
"""

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

import history

OURS = """
import torch
from glassgpt.training.metrics import peak_bytes
from glassgpt.config import GPTConfig, OptimConfig, RunConfig, preset
from glassgpt.model import GPTModel, initialise
from glassgpt.optim.groups import make_optimizer
from glassgpt.training.step import NextTokenLoss, training_step
torch.set_num_threads(2)
config = GPTConfig.from_dict(preset("gpt2-small") | {"context_length": 1024, "dropout_rate": 0.0})
model = GPTModel(config)
initialise(model, torch.Generator().manual_seed(1))
optimizer = make_optimizer(model, OptimConfig())
loss_of = NextTokenLoss(model, RunConfig(linear="onednn"))
for step in range(3):
    ids = torch.randint(50257, (4, 257))
    training_step(loss_of, optimizer, ids[:, :-1].contiguous(), ids[:, 1:], learning_rate=1e-4, grad_clip=1.0)
print(peak_bytes())
"""

THEIRS = """
import sys, torch
from glassgpt.training.metrics import peak_bytes
sys.path.insert(0, sys.argv[1])
from model import GPT, GPTConfig
torch.set_num_threads(2)
model = GPT(GPTConfig(block_size=1024, vocab_size=50257, dropout=0.0, bias=True))
decay = [p for p in model.parameters() if p.dim() >= 2]
rest = [p for p in model.parameters() if p.dim() < 2]
groups = [{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
optimizer = torch.optim.AdamW(groups, lr=1e-4, betas=(0.9, 0.95), fused=True)
for step in range(3):
    ids = torch.randint(50257, (4, 257))
    _, loss = model(ids[:, :-1].contiguous(), ids[:, 1:].contiguous())
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
print(peak_bytes())
"""


def peak(code: str, *arguments: str) -> int:
    found = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return int(found.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nanogpt", type=Path, required=True, help="a checkout of nanoGPT")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    ours = [peak(OURS) for _ in range(arguments.rounds)]
    theirs = [peak(THEIRS, str(arguments.nanogpt)) for _ in range(arguments.rounds)]
    ratio = statistics.median(ours) / statistics.median(theirs)
    print(f"ours     {statistics.median(ours) / 1e9:.3f} GB  ({min(ours) / 1e9:.3f} ... {max(ours) / 1e9:.3f})")
    print(f"nanoGPT  {statistics.median(theirs) / 1e9:.3f} GB  ({min(theirs) / 1e9:.3f} ... {max(theirs) / 1e9:.3f})")
    print(f"ratio    {ratio:.3f}")
    history.append("training_memory", {"ours_bytes": ours, "nanogpt_bytes": theirs, "ratio": ratio})


if __name__ == "__main__":
    main()
