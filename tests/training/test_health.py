"""Each figure of a model's health against its definition, and that nobody notices that it was measured."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from glassgpt.config import GPTConfig, OptimConfig, RunConfig
from glassgpt.data.batches import Batches
from glassgpt.model import GPTModel, initialise
from glassgpt.native.compiled import library
from glassgpt.optim.groups import make_optimizer
from glassgpt.training.health import SAMPLED, StepWatch, activations, windows
from glassgpt.training.metrics import append_health, read_health
from glassgpt.training.step import NextTokenLoss, StepResult, training_loss, training_step

KERNELS = ["torch", pytest.param("native", marks=pytest.mark.skipif(library() is None, reason="no native code"))]
IDS = np.random.default_rng(1).integers(0, 50, 5000).astype(np.uint16)


def a_model(architecture: str = "modern", **changes: object) -> GPTModel:
    sizes = {"vocab_size": 50, "context_length": 16, "embedding_dim": 32, "n_heads": 2, "n_layers": 3}
    model = GPTModel(GPTConfig.from_dict({"architecture": architecture, **sizes, **changes}))
    initialise(model, torch.Generator().manual_seed(1))
    return model


def trained(model: GPTModel, kernel: str, *, watched: bool, optim: str = "muon", steps: int = 3) -> list[StepResult]:
    """Train `model`, and return what each step measured."""
    config = OptimConfig(name="muon" if optim == "muon" else "adamw")
    run = RunConfig(kernel=kernel, dtype="fp32", linear="torch", threads=1, device="cpu")
    loss_of, optimizer = training_loss(model, run), make_optimizer(model, config)
    watch = StepWatch(model) if watched else None
    batches, results = Batches(IDS, 16, 4, seed=1), []
    for step in range(steps):
        torch.manual_seed(step)
        ids, targets = batches.batch(step)
        results.append(
            training_step(loss_of, optimizer, ids, targets, learning_rate=1e-2, grad_clip=0.1, watch=watch)
        )
    return results


@pytest.mark.parametrize("optim", ["adamw", "muon"])
def test_the_gradients_of_all_parts_are_that_of_the_model_before_it_is_clipped(optim: str) -> None:
    model = a_model()
    model.final_norm = nn.Identity()  # is no part of those that are looked at
    for result in trained(model, "torch", watched=True, optim=optim):
        assert result.health is not None
        parts = [*result.health["layers"], result.health["embedding"], result.health["head"]]
        together = math.sqrt(sum(part["gradient_norm"] ** 2 for part in parts))
        assert together == pytest.approx(result.grad_norm, rel=1e-4)
        assert together > 0.1


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_a_watched_model_has_the_same_bits(kernel: str, dropout: float) -> None:
    models = []
    for watched in (True, False):
        model = a_model(dropout_rate=dropout)
        trained(model, kernel, watched=watched)
        models.append(model)
    for (name, one), other in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        assert torch.equal(one, other), name


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_update_ratio_is_the_norm_of_the_change_by_that_of_the_weights(kernel: str) -> None:
    model = a_model("gpt2")
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    run = RunConfig(kernel=kernel, dtype="fp32", linear="torch", threads=1, device="cpu")
    ids, targets = Batches(IDS, 16, 4, seed=1).batch(0)
    optimizer = make_optimizer(model, OptimConfig())
    watch = StepWatch(model)
    result = training_step(
        training_loss(model, run), optimizer, ids, targets, learning_rate=1e-2, grad_clip=0, watch=watch
    )
    matrices = {name: (was, model.get_parameter(name)) for name, was in before.items() if was.dim() == 2}

    def ratio(prefix: str) -> float:
        pairs = [(is_ - was, was) for name, (was, is_) in matrices.items() if name.startswith(prefix)]
        moved, size = (math.sqrt(sum(float(pair[n].detach().square().sum()) for pair in pairs)) for n in (0, 1))
        return moved / size

    assert result.health is not None
    for layer, values in enumerate(result.health["layers"]):
        assert values["update_ratio"] == pytest.approx(ratio(f"blocks.{layer}."), rel=1e-5)
        squares = sum(float(p.grad.square().sum()) for p in model.blocks[layer].parameters() if p.grad is not None)
        assert values["gradient_norm"] == pytest.approx(math.sqrt(squares), rel=1e-4)
    assert result.health["head"]["update_ratio"] == pytest.approx(ratio("output_head"), rel=1e-5)
    assert result.health["embedding"]["update_ratio"] == pytest.approx(ratio("token_embedding"), rel=1e-5)


def test_of_a_large_matrix_some_rows_stand_for_all() -> None:
    model = a_model(vocab_size=3 * SAMPLED, embedding_dim=8)
    watch = StepWatch(model)
    watch.before_update()
    with torch.no_grad():
        model.output_head.weight.mul_(1.01)
    assert watch.after_update()["head"] == {"update_ratio": pytest.approx(0.01, rel=1e-3)}, "and it has no gradient"


@pytest.mark.parametrize("architecture", ["gpt2", "modern"])
def test_activations_are_those_of_the_residual_stream(architecture: str) -> None:
    model = a_model(architecture, dropout_rate=0.5).train()
    ids = windows(IDS, 16)
    assert ids.shape == (128, 16)
    found = activations(model, ids)
    assert model.training
    model.eval()
    with torch.no_grad():
        x = model.position_embedding(model.token_embedding(ids))
        for block, values in zip(model.blocks, found, strict=True):
            x = block(x)
            assert values["activation_norm"] == pytest.approx(float(x.square().mean().sqrt()), rel=1e-5)
            assert values["dead_units"] == 0.0


@pytest.mark.parametrize(("architecture", "dead"), [("gpt2", "up"), ("modern", "gate")])
def test_units_that_are_silent_for_every_token_are_dead(architecture: str, dead: str) -> None:
    model = a_model(architecture)
    inner = model.config.feed_forward_dim
    with torch.no_grad():
        module = getattr(model.blocks[1].feed_forward, dead)
        module.weight[: inner // 4] = 0.0
        if module.bias is not None:
            module.bias[: inner // 4] = -20.0
    shares = [values["dead_units"] for values in activations(model, windows(IDS, 16))]
    assert shares == [0.0, 0.25, 0.0]


class Plain(nn.Module):
    """A model with neither blocks nor an embedding of that name."""

    def __init__(self) -> None:
        super().__init__()
        self.config = GPTConfig(vocab_size=50, context_length=16, embedding_dim=8, n_heads=2)
        self.tokens, self.output_head = nn.Embedding(50, 8), nn.Linear(8, 50, bias=False)

    def hidden(self, ids: Tensor) -> Tensor:
        return self.tokens(ids)


def test_what_a_model_does_not_have_is_left_out() -> None:
    model = Plain()
    batch = Batches(IDS, 16, 4, seed=1).batch(0)
    optimizer, watch = make_optimizer(model, OptimConfig()), StepWatch(model)  # pyrefly: ignore
    loss_of = NextTokenLoss(model)  # pyrefly: ignore
    health = training_step(loss_of, optimizer, *batch, learning_rate=1e-2, grad_clip=0, watch=watch).health
    assert health is not None
    assert health["layers"] == []
    assert health["embedding"] == {}
    assert health["head"]["update_ratio"] > 0
    assert activations(model, windows(IDS, 16)) == []  # pyrefly: ignore


def test_a_short_text_is_one_short_window() -> None:
    assert windows(IDS[:5], 16).shape == (1, 5)
    assert windows(IDS, 4096).shape == (1, 4096)


def test_lines_come_back_and_those_that_make_no_sense_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "health.jsonl"
    assert read_health(path) == []
    line = {"step": 5, "layers": [{"update_ratio": 0.001}], "embedding": {}, "head": {}, "val_bpb": 2.5}
    append_health(path, line)
    with path.open("a") as file:
        file.write('[1]\n{"layers": []}\n{"step": "7"}\n' + json.dumps(line)[:-5])
    assert read_health(path) == [line]
