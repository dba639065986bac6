import subprocess
import sys
from typing import Any

import pytest
import torch

from glassgpt import InputError
from glassgpt.config import GPTConfig, OptimConfig
from glassgpt.model import GPTModel
from glassgpt.optim.groups import make_optimizer
from glassgpt.optim.optimizer import Optimizer

TINY = GPTConfig(
    architecture="modern", vocab_size=11, context_length=8, embedding_dim=8, n_heads=2, n_layers=2, tie_embeddings=True
)
KINDS: list[dict[str, Any]] = [{"name": "adamw"}, {"name": "muon"}, {"name": "muon", "muon_normalise_rows": True}]

STEP_AND_LOOK = """
import sys
import torch
from glassgpt.config import GPTConfig, OptimConfig
from glassgpt.model import GPTModel
from glassgpt.optim.groups import make_optimizer
from glassgpt.training.step import NextTokenLoss, training_step

model = GPTModel(GPTConfig(vocab_size=11, context_length=8, embedding_dim=8, n_heads=2, n_layers=1))
ids = torch.zeros(2, 8, dtype=torch.int64)
for name in ("adamw", "muon"):
    optimizer = make_optimizer(model, OptimConfig(name=name))
    training_step(NextTokenLoss(model), optimizer, ids, ids, learning_rate=0.1, grad_clip=1e-3)
sys.exit("torch._dynamo" in sys.modules)
"""


def step(model: GPTModel, optimizer: Optimizer, seed: int) -> None:
    ids = torch.randint(11, (2, 8), generator=torch.Generator().manual_seed(seed))
    optimizer.zero_grad()
    model(ids).square().mean().backward()
    optimizer.step(1e-3)


def twin(model: GPTModel) -> GPTModel:
    other = GPTModel(TINY)
    other.load_state_dict(model.state_dict())
    return other


def same(a: GPTModel, b: GPTModel) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.thorough
def test_no_step_imports_the_compiler() -> None:
    assert subprocess.run([sys.executable, "-c", STEP_AND_LOOK]).returncode == 0


@pytest.mark.parametrize("fields", KINDS)
def test_the_state_comes_back_by_name_and_goes_on_identically(fields: dict[str, Any]) -> None:
    torch.manual_seed(0)
    first = GPTModel(TINY)
    optimizer = make_optimizer(first, OptimConfig(**fields))
    step(first, optimizer, 1)
    second = twin(first)
    other = make_optimizer(second, OptimConfig(**fields))
    tensors = {name: tensor.clone() for name, tensor in optimizer.tensors().items()}
    key = "exp_avg" if fields["name"] == "adamw" else "momentum"
    assert f"blocks.0.attention.query.weight/{key}" in tensors
    other.restore(tensors)
    for seed in (2, 3):
        step(first, optimizer, seed)
        step(second, other, seed)
    assert same(first, second)


@pytest.mark.parametrize("fields", KINDS)
def test_after_a_reset_it_is_as_new(fields: dict[str, Any]) -> None:
    torch.manual_seed(0)
    first = GPTModel(TINY)
    second = twin(first)
    used = make_optimizer(first, OptimConfig(**fields))
    step(first, used, 1)
    used.reset()
    first.load_state_dict(second.state_dict())
    step(first, used, 2)
    step(second, make_optimizer(second, OptimConfig(**fields)), 2)
    assert same(first, second)


def test_the_state_of_another_optimiser_is_refused() -> None:
    model = GPTModel(TINY)
    muon, adamw = (make_optimizer(model, OptimConfig(name=name)) for name in ("muon", "adamw"))
    with pytest.raises(InputError, match=r"has no blocks\.0\.attention\.query\.weight/momentum of shape \[8, 8\]"):
        muon.restore(adamw.tensors())
