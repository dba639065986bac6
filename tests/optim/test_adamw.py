import math

import pytest
import torch

from glassgpt.config import GPTConfig, OptimConfig
from glassgpt.model import GPTModel
from glassgpt.optim import adamw
from glassgpt.optim.adamw import AdamW

TINY = GPTConfig(vocab_size=11, context_length=8, embedding_dim=8, n_heads=2, n_layers=1, tie_embeddings=True)


def twins() -> tuple[GPTModel, GPTModel]:
    """Two models that are equal."""
    torch.manual_seed(0)
    first, second = GPTModel(TINY), GPTModel(TINY)
    second.load_state_dict(first.state_dict())
    return first, second


def backward(model: GPTModel, seed: int) -> None:
    model.zero_grad()
    ids = torch.randint(11, (2, 8), generator=torch.Generator().manual_seed(seed))
    model(ids).square().mean().backward()


def test_every_bit_is_that_of_pytorchs_own() -> None:
    ours, theirs = twins()
    config = OptimConfig(weight_decay=0.1)
    optimizer = AdamW(dict(ours.named_parameters()), config)
    parameters = list(theirs.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": 0.1},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    reference = torch.optim.AdamW(groups, 1e-3, (config.beta1, config.beta2), config.eps, fused=True)
    for step in range(5):
        backward(ours, step)
        backward(theirs, step)
        for group in reference.param_groups:
            group["lr"] = 1e-3 / (step + 1)
        optimizer.step(1e-3 / (step + 1))
        reference.step()
        for (name, parameter), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            assert torch.equal(parameter, other), name


def test_where_the_fused_kernel_is_missing_the_plain_one_does_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    fused, plain = twins()
    config = OptimConfig(weight_decay=0.1, learning_rate=0.01)
    first, second = (AdamW(dict(model.named_parameters()), config) for model in (fused, plain))
    for step in range(4):
        backward(fused, step)
        for parameter, other in zip(fused.parameters(), plain.parameters(), strict=True):
            other.grad = parameter.grad
        first.step(0.01)
        with monkeypatch.context() as patch:
            patch.setattr(adamw, "_has_fused", lambda device: False)
            second.step(0.01)
    for (name, parameter), other in zip(fused.named_parameters(), plain.named_parameters(), strict=True):
        assert torch.allclose(parameter, other[1], atol=1e-6), name


def test_the_fused_kernel_does_what_the_paper_says() -> None:
    """Algorithm 2 of Loshchilov & Hutter 2019, one element at a time."""
    config = OptimConfig(learning_rate=0.01, weight_decay=0.1, beta1=0.8, beta2=0.9)
    weight = torch.nn.Parameter(torch.randn(2, 3, generator=torch.Generator().manual_seed(1)))
    optimizer = AdamW({"weight": weight}, config)
    gradients = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(0))
    expected = weight[1, 2].item()
    mean = variance = 0.0
    for step, gradient in enumerate(gradients, 1):
        weight.grad = gradient.clone()
        optimizer.step(0.01)
        g = gradient[1, 2].item()
        mean = 0.8 * mean + 0.2 * g
        variance = 0.9 * variance + 0.1 * g * g
        update = (mean / (1 - 0.8**step)) / (math.sqrt(variance / (1 - 0.9**step)) + config.eps)
        expected = expected * (1 - 0.01 * 0.1) - 0.01 * update
    assert abs(weight[1, 2].item() - expected) < 1e-6


def test_matrices_decay_and_norms_and_biases_do_not() -> None:
    model, _ = twins()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    AdamW(dict(model.named_parameters()), OptimConfig(weight_decay=0.5)).step(0.1)
    for name, parameter in model.named_parameters():
        expected = before[name] * 0.95 if parameter.dim() == 2 else before[name]
        assert torch.allclose(parameter, expected), name


def test_a_parameter_without_a_gradient_is_left_as_it_is() -> None:
    model, _ = twins()
    backward(model, 0)
    weight = model.blocks[0].feed_forward.up.weight  # pyrefly: ignore
    weight.grad = None
    before = weight.detach().clone()
    AdamW(dict(model.named_parameters()), OptimConfig()).step(0.1)
    assert torch.equal(weight, before)
