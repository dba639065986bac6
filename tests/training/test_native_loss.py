"""The native step against PyTorch's autograd on the same weights and batch."""

import os

import numpy as np
import pytest
import torch

from glassgpt.config import GPTConfig
from glassgpt.evaluation.bits_per_byte import evaluate
from glassgpt.model import GPTModel, initialise
from glassgpt.native import compiled
from glassgpt.training.native_loss import NativeLoss
from glassgpt.training.step import NextTokenLoss

SHAPES = {
    "modern, tied": {"architecture": "modern", "context_length": 64, "embedding_dim": 64, "n_heads": 2},
    "modern, long context": {"architecture": "modern", "context_length": 130, "embedding_dim": 64, "n_heads": 1},
    "llama, grouped heads, odd context": {
        "architecture": "modern", "context_length": 37, "embedding_dim": 96, "n_heads": 6, "n_kv_heads": 2,
        "qk_norm": False, "tie_embeddings": False, "vocab_size": 301,
    },
    "gpt2, tied": {"architecture": "gpt2", "context_length": 64, "embedding_dim": 64, "n_heads": 2},
    "gpt2, all biases, uneven widths": {
        "architecture": "gpt2", "context_length": 50, "embedding_dim": 60, "n_heads": 6, "qkv_bias": True,
        "tie_embeddings": False, "vocab_size": 130,
    },
}  # fmt: skip


def tiers_of_this_processor():
    """Those that it can run: asked for another, the library takes its best."""
    found = []
    with pytest.MonkeyPatch.context() as patch:
        for name in ("plain", "avx2", "avx512", "avx512-bf16"):
            patch.setenv("GLASSGPT_NATIVE_TIER", name)
            found += [name] if compiled.tier() == name else []
    return found


@pytest.fixture(autouse=True)
def needs_native_code():
    if compiled.tier() is None:
        assert os.environ.get("CI") != "true", "CI has a compiler, so the native code must be there"
        pytest.skip("the native code was not compiled here (no C++ compiler)")


def model_of(shape, **changes):
    config = GPTConfig.from_dict({"vocab_size": 65, "n_layers": 2, "tie_embeddings": True} | shape | changes)
    model = GPTModel(config)
    initialise(model, torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():  # away from zero biases and scales of one
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return model


def batch_of(model, n=7):
    generator = torch.Generator().manual_seed(3)
    shape = (n, model.config.context_length)
    ids, targets = (torch.randint(0, model.config.vocab_size, shape, generator=generator) for _ in range(2))
    targets[0, :5] = -100
    return ids, targets


def by_autograd(model, ids, targets):
    model.zero_grad()
    loss = NextTokenLoss(model)(ids, targets)
    loss.backward()
    return float(loss.detach()), {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("tier", tiers_of_this_processor())
def test_loss_and_gradients_equal_autograd(shape, threads, tier, monkeypatch):
    monkeypatch.setenv("GLASSGPT_NATIVE_TIER", tier)
    model = model_of(shape)
    ids, targets = batch_of(model)
    loss, gradients = by_autograd(model, ids, targets)
    native, norm = NativeLoss(model, threads, bf16=False).gradients_of(ids, targets)
    assert native == pytest.approx(loss, rel=1e-6)
    assert norm == pytest.approx(sum(float(g.square().sum()) for g in gradients.values()) ** 0.5, rel=1e-5)
    for name, parameter in model.named_parameters():
        assert torch.allclose(parameter.grad, gradients[name], rtol=1e-4, atol=2e-7), name


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("tier", tiers_of_this_processor())
def test_bf16_stays_near_fp32(shape, tier, monkeypatch):
    monkeypatch.setenv("GLASSGPT_NATIVE_TIER", tier)
    model = model_of(shape)
    if not compiled.has_bf16():
        with pytest.raises(RuntimeError, match="no bf16 products"):
            NativeLoss(model, 2, bf16=True)
        return
    ids, targets = batch_of(model)
    loss, gradients = by_autograd(model, ids, targets)
    native, norm = NativeLoss(model, 2, bf16=True).gradients_of(ids, targets)
    assert native == pytest.approx(loss, rel=1e-3)
    flat = torch.cat([p.grad.flatten() for p in model.parameters()])
    expected = torch.cat([gradients[name].flatten() for name, _ in model.named_parameters()])
    assert float((flat - expected).norm() / expected.norm()) < 0.02  # bf16 rounds to 8 bits
    assert norm == pytest.approx(float(flat.norm()), rel=1e-5)


@pytest.mark.parametrize("architecture", ["modern", "gpt2"])
@pytest.mark.parametrize("tier", tiers_of_this_processor())
def test_gradients_under_dropout_are_those_of_the_loss_under_the_same_dropout(architecture, tier, monkeypatch):
    monkeypatch.setenv("GLASSGPT_NATIVE_TIER", tier)
    shape = {"architecture": architecture, "context_length": 48, "embedding_dim": 64, "n_heads": 2, "dropout_rate": 0.2}
    model = model_of(shape).train()
    ids, targets = batch_of(model)
    native = NativeLoss(model, 2, bf16=False)
    torch.manual_seed(5)
    before, _ = native.gradients_of(ids, targets)
    generator = torch.Generator().manual_seed(4)
    directions = [torch.randn(p.shape, generator=generator) * 1e-3 for p in model.parameters()]
    slope = sum(float((p.grad * d).sum()) for p, d in zip(model.parameters(), directions, strict=True))
    losses = []
    for sign in (1, -2):
        with torch.no_grad():
            torch._foreach_add_([*model.parameters()], directions, alpha=sign)
        losses.append(native.gradients_of(ids, targets)[0])
    assert losses[0] - losses[1] == pytest.approx(2 * slope, rel=2e-2)
    torch.manual_seed(6)
    assert native.gradients_of(ids, targets)[0] != losses[1]
    model.eval()
    assert native.gradients_of(ids, targets)[0] == pytest.approx(by_autograd(model, ids, targets)[0], rel=1e-6)
    assert before != pytest.approx(losses[1], rel=1e-6)


@pytest.mark.thorough
def test_dropout_keeps_the_mean_of_the_embedding():
    """With no blocks to speak of, what dropout leaves of a constant is its mean."""
    shape = {"architecture": "gpt2", "context_length": 64, "embedding_dim": 64, "n_heads": 2, "dropout_rate": 0.25}
    model = model_of(shape).train()
    ids, targets = batch_of(model, n=64)
    native = NativeLoss(model, 2, bf16=False)
    losses = []
    for seed in range(40):
        torch.manual_seed(seed)
        losses.append(native.gradients_of(ids, targets)[0])
    torch.manual_seed(0)
    expected = [float(NextTokenLoss(model)(ids, targets).detach()) for _ in range(40)]
    spread = torch.tensor(expected).std() / 40**0.5
    assert abs(sum(losses) - sum(expected)) / 40 < 5 * float(spread)


def test_the_same_step_gives_the_same_bits():
    model = model_of(SHAPES["modern, tied"])
    ids, targets = batch_of(model)
    results = []
    for _ in range(2):
        result = NativeLoss(model, 2, bf16=False).gradients_of(ids, targets)
        results.append((result, [p.grad.clone() for p in model.parameters()]))
    assert results[0][0] == results[1][0]
    assert all(torch.equal(a, b) for a, b in zip(results[0][1], results[1][1], strict=True))


def test_more_threads_than_sequences_are_no_harm():
    model = model_of(SHAPES["modern, tied"])
    ids, targets = batch_of(model, n=1)
    loss, gradients = by_autograd(model, ids, targets)
    assert NativeLoss(model, 3, bf16=False).gradients_of(ids, targets)[0] == pytest.approx(loss, rel=1e-6)
    assert all(torch.allclose(p.grad, gradients[n], rtol=1e-4, atol=2e-7) for n, p in model.named_parameters())


def test_its_evaluation_is_that_of_the_model():
    model = model_of(SHAPES["modern, tied"], dropout_rate=0.2).train()
    ids = np.random.default_rng(0).integers(65, size=1000).astype(np.uint16)
    token_bytes = np.ones(65, np.int64)
    native = NativeLoss(model, 2, bf16=compiled.has_bf16())
    expected, found = (evaluate(model, ids, token_bytes, nats_of=nats_of) for nats_of in (None, native.nats))
    assert found.nats == pytest.approx(expected.nats, rel=1e-6)
