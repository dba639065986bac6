"""The predicted peak of training against what a process really takes, on Linux, where it can be measured."""

import json
import subprocess
import sys

import pytest

from glassgpt.config import GPTConfig
from glassgpt.planning.memory import training_memory

TRAIN_AND_MEASURE = """
import json, sys
import torch
from glassgpt.model import GPTModel
from glassgpt.ops.loss import chunked_cross_entropy

config, batch_size, accumulation = json.loads(sys.argv[1])
model = GPTModel(config).train()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
for step in range(2):  # the optimiser's own memory is there from the second on
    for part in range(accumulation):
        ids = torch.randint(model.config.vocab_size, (batch_size // accumulation, model.config.context_length))
        hidden = model.hidden(ids).flatten(0, 1)
        chunked_cross_entropy(hidden, model.output_head.weight, ids.flatten()).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
from glassgpt.training.metrics import peak_bytes
print(peak_bytes())
"""

GPT2_SMALL = {"context_length": 256, "qkv_bias": True, "tie_embeddings": True}


@pytest.mark.thorough
@pytest.mark.skipif(sys.platform != "linux", reason="other systems count resident memory otherwise")
@pytest.mark.parametrize(
    ("values", "batch_size", "accumulation"),
    [
        ({"vocab_size": 2000, "embedding_dim": 256, "n_heads": 4, "n_layers": 4, "context_length": 128}, 64, 1),
        pytest.param(GPT2_SMALL, 4, 1, marks=pytest.mark.slow),
        pytest.param(GPT2_SMALL | {"dropout_rate": 0.1}, 4, 2, marks=pytest.mark.slow),
        pytest.param(GPT2_SMALL | {"tie_embeddings": False}, 2, 1, marks=pytest.mark.slow),
        pytest.param(
            {"architecture": "modern", "vocab_size": 8000, "embedding_dim": 512, "n_heads": 8, "n_kv_heads": 4,
             "n_layers": 8, "context_length": 512, "tie_embeddings": True}, 8, 1, marks=pytest.mark.slow,
        ),
    ],
    ids=["small", "gpt2-small", "dropout in parts", "untied", "modern"],
)  # fmt: skip
def test_the_predicted_peak_is_within_a_tenth_of_the_measured_one(
    values: dict[str, object], batch_size: int, accumulation: int
) -> None:
    command = [sys.executable, "-c", TRAIN_AND_MEASURE, json.dumps([values, batch_size, accumulation])]
    # With a fixed threshold glibc hands freed blocks back at once; without, it keeps up to as much again.
    environment = {"MALLOC_MMAP_THRESHOLD_": str(2**20), "OMP_NUM_THREADS": "2"}
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    predicted = training_memory(GPTConfig.from_dict(values), batch_size, accumulation)["total"]
    assert predicted == pytest.approx(int(finished.stdout), rel=0.1)
