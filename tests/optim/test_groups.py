import math

import torch

from glassgpt.config import GPTConfig, OptimConfig
from glassgpt.model import GPTModel
from glassgpt.optim.groups import make_optimizer, optimizer_tensors, parameter_groups, restore_optimizer

TINY = GPTConfig(vocab_size=11, context_length=8, embedding_dim=8, n_heads=2, n_layers=1, tie_embeddings=True)


def test_matrices_decay_and_norms_and_biases_do_not() -> None:
    model = GPTModel(TINY)
    decayed, kept = (set(map(id, group["params"])) for group in parameter_groups(model, 0.1))
    for name, parameter in model.named_parameters():
        assert id(parameter) in (decayed if parameter.dim() == 2 else kept), name
    assert len(decayed) + len(kept) == len(list(model.parameters()))


def test_the_fused_optimiser_does_what_the_paper_says() -> None:
    """Algorithm 2 of Loshchilov & Hutter 2019, one element at a time."""
    config = OptimConfig(learning_rate=0.01, weight_decay=0.1, beta1=0.8, beta2=0.9)
    model = torch.nn.Linear(3, 2, bias=False)
    optimizer = make_optimizer(model, config)
    gradients = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(0))
    weight = model.weight[1, 2].item()
    mean = variance = 0.0
    for step, gradient in enumerate(gradients, 1):
        model.weight.grad = gradient.clone()
        optimizer.step()
        g = gradient[1, 2].item()
        mean = 0.8 * mean + 0.2 * g
        variance = 0.9 * variance + 0.1 * g * g
        update = (mean / (1 - 0.8**step)) / (math.sqrt(variance / (1 - 0.9**step)) + config.eps)
        weight = weight * (1 - 0.01 * 0.1) - 0.01 * update
    assert abs(model.weight[1, 2].item() - weight) < 1e-6


def test_the_state_comes_back_by_name_and_goes_on_identically() -> None:
    def step(model: GPTModel, optimizer: torch.optim.Optimizer, seed: int) -> None:
        ids = torch.randint(11, (2, 8), generator=torch.Generator().manual_seed(seed))
        model(ids).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    torch.manual_seed(0)
    first = GPTModel(TINY)
    optimizer = make_optimizer(first, OptimConfig())
    step(first, optimizer, 1)
    second = GPTModel(TINY)
    second.load_state_dict(first.state_dict())
    other = make_optimizer(second, OptimConfig())
    tensors = {name: tensor.clone() for name, tensor in optimizer_tensors(first, optimizer).items()}
    assert "blocks.0.attention.query.weight/exp_avg" in tensors
    restore_optimizer(second, other, tensors)
    step(first, optimizer, 2)
    step(second, other, 2)
    for (name, a), b in zip(first.named_parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b), name
