"""The predicted peak of training against what a process really takes, on Linux, where it can be measured."""

import json
import subprocess
import sys
from typing import Any

import pytest

from glassgpt.config import GPTConfig, OptimConfig, RunConfig
from glassgpt.native.compiled import tier
from glassgpt.planning.memory import training_memory

TRAIN_AND_MEASURE = """
import json, sys
import torch
from glassgpt.config import OptimConfig, RunConfig
from glassgpt.model import GPTModel
from glassgpt.optim.groups import make_optimizer
from glassgpt.training.heap import keep_freed_memory
from glassgpt.training.metrics import peak_bytes, resident_bytes
from glassgpt.training.step import training_loss, training_step

config, optim, run = json.loads(sys.argv[1])
optim, run = OptimConfig(**optim), RunConfig(**run)
torch.set_num_threads(run.threads)
torch.ones(512, 512) @ torch.ones(512, 512)  # the threads are there
keep_freed_memory()
before = resident_bytes()
model = GPTModel(config).train()
optimizer = make_optimizer(model, optim)
loss_of = training_loss(model, run)
for step in range(3):
    ids = torch.randint(model.config.vocab_size, (optim.batch_size, model.config.context_length))
    training_step(loss_of, optimizer, ids, ids, learning_rate=1e-4, grad_clip=1.0, accumulation=optim.accumulation)
if run.kernel == "native":
    loss_of.nats(ids, ids)
print(before, peak_bytes())
"""

SMALL = {"vocab_size": 2000, "embedding_dim": 256, "n_heads": 4, "n_layers": 4, "context_length": 128}
GPT2_SMALL = {"context_length": 256, "qkv_bias": True, "tie_embeddings": True}
MODERN = {
    "architecture": "modern", "vocab_size": 8000, "embedding_dim": 512, "n_heads": 8, "n_kv_heads": 4, "n_layers": 8,
    "context_length": 512, "tie_embeddings": True,
}  # fmt: skip
TINY = {
    "architecture": "modern", "vocab_size": 2048, "embedding_dim": 128, "n_heads": 4, "n_layers": 4,
    "context_length": 128, "tie_embeddings": True,
}  # fmt: skip
BF16, AGAIN = {"dtype": "bf16"}, {"dtype": "bf16", "recompute": True}
slow = pytest.mark.slow


@pytest.mark.thorough
@pytest.mark.skipif(sys.platform != "linux", reason="other systems count resident memory otherwise")
@pytest.mark.parametrize(
    ("values", "optim", "run"),
    [
        pytest.param(SMALL, {"batch_size": 64}, {}, id="small"),
        pytest.param(SMALL, {"batch_size": 64}, AGAIN, id="small recomputed"),
        pytest.param(TINY, {"batch_size": 16}, {"kernel": "native", "dtype": "bf16"}, id="native"),
        pytest.param(GPT2_SMALL, {"batch_size": 4}, {}, marks=slow, id="gpt2-small"),
        pytest.param(GPT2_SMALL, {"batch_size": 4}, BF16, marks=slow, id="gpt2-small bf16"),
        pytest.param(GPT2_SMALL, {"batch_size": 4}, AGAIN, marks=slow, id="gpt2-small recomputed"),
        pytest.param(GPT2_SMALL | {"dropout_rate": 0.1}, {"batch_size": 4, "accumulation": 2}, BF16, marks=slow,
                     id="dropout in parts"),
        pytest.param(GPT2_SMALL | {"tie_embeddings": False}, {"batch_size": 2}, BF16, marks=slow, id="untied"),
        pytest.param(MODERN, {"batch_size": 8}, BF16, marks=slow, id="modern"),
        pytest.param(MODERN, {"batch_size": 8, "accumulation": 4}, AGAIN, marks=slow, id="modern, all means"),
    ],
)  # fmt: skip
def test_the_predicted_peak_is_within_a_tenth_of_the_measured_one(
    values: dict[str, Any], optim: dict[str, Any], run: dict[str, Any]
) -> None:
    if run.get("kernel") == "native" and tier() is None:
        pytest.skip("the native code was not built")
    run = {"kernel": "torch", "threads": 2} | run
    command = [sys.executable, "-c", TRAIN_AND_MEASURE, json.dumps([values, optim, run])]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    before, measured = map(int, finished.stdout.split())
    predicted = training_memory(GPTConfig.from_dict(values), OptimConfig(**optim), RunConfig(**run), before)
    # The peak of the small fp32 case differs by a tenth between runs of the same code, so it may miss by more.
    several = values is SMALL and not run.get("recompute")
    assert predicted["total"] == pytest.approx(measured, rel=0.2 if several else 0.1)
