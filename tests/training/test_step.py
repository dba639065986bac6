import contextlib
import math

import pytest
import torch

from glassgpt.config import GPTConfig, OptimConfig, RunConfig
from glassgpt.model import GPTModel
from glassgpt.ops.loss import IGNORED
from glassgpt.optim.groups import make_optimizer
from glassgpt.optim.optimizer import Optimizer
from glassgpt.training.finite import first_not_finite
from glassgpt.training.step import NextTokenLoss, Refused, refuse_spoiled, training_step

CONFIG = GPTConfig(vocab_size=17, context_length=8, embedding_dim=16, n_heads=2, n_layers=2, tie_embeddings=True)


def fresh(seed: int = 0) -> tuple[GPTModel, Optimizer]:
    torch.manual_seed(seed)
    model = GPTModel(CONFIG)
    return model, make_optimizer(model, OptimConfig())


def a_batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    ids, targets = torch.randint(17, (2, 6, 8), generator=generator)
    targets[0, 3:] = IGNORED
    targets[5, :7] = IGNORED
    return ids, targets


def test_a_batch_in_parts_gives_the_gradients_of_the_whole() -> None:
    norms, losses = [], []
    for accumulation in (1, 2, 3, 6):
        model, optimizer = fresh()
        result = training_step(
            NextTokenLoss(model), optimizer, *a_batch(), learning_rate=0.0, grad_clip=0.0, accumulation=accumulation
        )
        norms.append(result.grad_norm)
        losses.append(result.loss)
    assert losses == pytest.approx([losses[0]] * 4, rel=1e-5)
    assert norms == pytest.approx([norms[0]] * 4, rel=1e-4)


def test_the_loss_is_the_mean_cross_entropy_of_the_counted_targets() -> None:
    model, optimizer = fresh()
    ids, targets = a_batch()
    with torch.no_grad():
        expected = torch.nn.functional.cross_entropy(model(ids).flatten(0, 1), targets.flatten())
    result = training_step(NextTokenLoss(model), optimizer, ids, targets, learning_rate=0.0, grad_clip=1.0)
    assert result.loss == pytest.approx(float(expected), rel=1e-5)


def test_clipping_scales_all_gradients_to_the_norm_asked_for() -> None:
    model, optimizer = fresh()
    result = training_step(NextTokenLoss(model), optimizer, *a_batch(), learning_rate=0.0, grad_clip=0.01)
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert result.grad_norm > 0.01
    assert float(torch.nn.utils.get_total_norm(gradients)) == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_named_before_anything_is_updated(bad: float) -> None:
    model, optimizer = fresh()
    with torch.no_grad():
        model.blocks[1].feed_forward.up.weight[0, 0] = bad  # pyrefly: ignore
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(Refused, match=r"blocks\.1\.feed_forward\.up\.weight"):
        training_step(NextTokenLoss(model), optimizer, *a_batch(), learning_rate=0.1, grad_clip=1.0)
    for old, new in zip(before, model.parameters(), strict=True):
        assert torch.equal(old.nan_to_num(7), new.nan_to_num(7))
    assert not any(tensor.any() for tensor in optimizer.tensors().values())


def test_in_bf16_the_loss_stays_close_and_the_weights_stay_fp32() -> None:
    model, optimizer = fresh()
    full = training_step(NextTokenLoss(model), optimizer, *a_batch(), learning_rate=0.0, grad_clip=1.0)
    half = training_step(
        NextTokenLoss(model, RunConfig(dtype="bf16")), optimizer, *a_batch(), learning_rate=0.0, grad_clip=1.0
    )
    assert half.loss == pytest.approx(full.loss, rel=0.02)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("parts", [1, 2])
def test_a_tied_embedding_gets_the_rows_of_the_batch_and_the_gradient_of_the_head(parts: int) -> None:
    model, optimizer = fresh()
    ids, targets = a_batch()
    ids[:, :3] = 7  # rows that meet one another
    logits = model(ids).flatten(0, 1)
    torch.nn.functional.cross_entropy(logits, targets.flatten()).backward()
    expected = model.token_embedding.weight.grad
    training_step(NextTokenLoss(model), optimizer, ids, targets, learning_rate=0.0, grad_clip=0.0, accumulation=parts)
    found = model.token_embedding.weight.grad
    assert found is not None
    assert found.layout == torch.strided
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)


def spoilt(monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    """The loss of every batch, and so its gradients, times a factor."""
    forward = NextTokenLoss.forward
    monkeypatch.setattr(NextTokenLoss, "forward", lambda *given: forward(*given) * factor)


def state(model: GPTModel, optimizer: Optimizer) -> dict[str, torch.Tensor]:
    named = model.state_dict() | optimizer.tensors()
    return {name: tensor.detach().clone() for name, tensor in named.items()}


@pytest.mark.parametrize("name", ["muon", "adamw"])
@pytest.mark.parametrize("factor", [math.nan, math.inf, -math.inf, 100.0, 1e37])
def test_a_step_that_is_refused_leaves_every_bit_of_weights_and_optimiser(
    name: str, factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = fresh()
    optimizer = make_optimizer(model, OptimConfig(name=name, average_share=0.5))
    loss_of = NextTokenLoss(model)
    usual = training_step(loss_of, optimizer, *a_batch(), learning_rate=1e-3, grad_clip=1.0).loss
    before = state(model, optimizer)
    spoilt(monkeypatch, factor)
    with pytest.raises(Refused) as refused:
        training_step(loss_of, optimizer, *a_batch(), learning_rate=1e-3, grad_clip=1.0, usual_loss=usual)
    assert not refused.value.is_weight
    after = state(model, optimizer)
    assert all(torch.equal(before[name], after[name]) for name in before | after)


def test_a_gradient_that_is_not_finite_and_a_norm_that_overflows_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    model, optimizer = fresh()
    scale = model.final_norm.scale  # pyrefly: ignore
    not_finite = "the gradient of final_norm.scale is not finite"
    too_large = "the norm of the gradients overflows, that of final_norm.scale before others"
    for factor, says in ((math.inf, not_finite), (1e25, too_large)):
        hook = scale.register_hook(lambda gradient, factor=factor: torch.full_like(gradient, factor))
        with pytest.raises(Refused, match=says) as refused:
            training_step(NextTokenLoss(model), optimizer, *a_batch(), learning_rate=1e-3, grad_clip=1.0)
        assert refused.value.tensor == "final_norm.scale"
        hook.remove()


@pytest.mark.parametrize(
    ("loss", "usual", "is_spike"),
    [(25.1, 2.5, True), (24.9, 2.5, False), (1.9, 0.01, False), (2.1, 0.01, True), (1e30, math.inf, False)],
)
def test_a_spike_is_many_times_what_was_usual_and_more_than_a_little(loss: float, usual: float, is_spike: bool) -> None:
    loss_of = NextTokenLoss(fresh()[0])
    with pytest.raises(Refused) if is_spike else contextlib.nullcontext():
        refuse_spoiled(loss_of, loss, 1.0, usual)


def test_the_first_tensor_with_a_number_that_is_none_is_found() -> None:
    whole = [("counts", torch.arange(3)), ("none", torch.empty(0)), ("many", torch.ones(3, 4)), ("one", torch.ones(()))]
    assert first_not_finite(whole) is None
    for bad in (math.nan, math.inf, -math.inf):
        for dtype in (torch.float32, torch.bfloat16, torch.float64):
            spoiled = torch.randn(5, 7, dtype=dtype)
            spoiled[4, 6] = bad
            assert first_not_finite([*whole, ("bad", spoiled), ("later", spoiled)]) == "bad"
