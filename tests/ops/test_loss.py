import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from glassgpt.ops.loss import BLOCK, IGNORED, SLICE, chunked_cross_entropy, plain_cross_entropy


def random_inputs(n: int, dim: int, vocab_size: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(n, dim, generator=generator)
    weight = torch.randn(vocab_size, dim, generator=generator)
    return hidden, weight, torch.randint(vocab_size, (n,), generator=generator)


def value_and_gradients(loss_function, hidden: Tensor, weight: Tensor, *rest) -> tuple[Tensor, ...]:
    hidden, weight = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
    loss = loss_function(hidden, weight, *rest)
    return loss.detach(), *torch.autograd.grad(3 * loss, (hidden, weight))


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 40), dim=st.integers(1, 8), vocab_size=st.integers(2, 30), rows=st.integers(1, 50),
    n_ignored=st.integers(0, 39), seed=st.integers(0, 1000),
)  # fmt: skip
def test_chunked_has_the_value_and_the_gradients_of_plain(
    n: int, dim: int, vocab_size: int, rows: int, n_ignored: int, seed: int
) -> None:
    hidden, weight, targets = random_inputs(n, dim, vocab_size, seed)
    ignored = torch.randperm(n, generator=torch.Generator().manual_seed(seed))[: min(n_ignored, n - 1)]
    targets[ignored] = IGNORED
    chunked = value_and_gradients(chunked_cross_entropy, hidden, weight, targets, rows)
    plain = value_and_gradients(plain_cross_entropy, hidden, weight, targets)
    for ours, expected in zip(chunked, plain):
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-4)


def test_the_head_in_several_slices_and_a_chunk_in_several_blocks_give_the_same() -> None:
    inputs = random_inputs(90, 3, SLICE + 4000)  # a block holds 86 rows of that vocabulary
    assert 90 * (SLICE + 4000) > BLOCK
    for rows in (0, 45):
        chunked = value_and_gradients(chunked_cross_entropy, *inputs, rows)
        for ours, expected in zip(chunked, value_and_gradients(plain_cross_entropy, *inputs)):
            torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-4)


def test_an_ignored_target_has_no_gradient() -> None:
    hidden, weight, targets = random_inputs(6, 4, 9)
    targets[2:4] = IGNORED
    _, gradient, _ = value_and_gradients(chunked_cross_entropy, hidden, weight, targets, 3)
    assert not gradient[2:4].any()
    assert gradient[[0, 1, 4, 5]].any(dim=1).all()


def test_nothing_but_ignored_targets_costs_nothing() -> None:
    hidden, weight, _ = random_inputs(5, 4, 9)
    loss, *gradients = value_and_gradients(chunked_cross_entropy, hidden, weight, torch.full((5,), IGNORED), 2)
    assert loss == 0
    assert not any(gradient.any() for gradient in gradients)


@pytest.mark.parametrize("learned", ["hidden", "weight"])
def test_only_one_side_may_need_a_gradient(learned: str) -> None:
    hidden, weight, targets = random_inputs(7, 4, 9)
    (hidden if learned == "hidden" else weight).requires_grad_()
    chunked_cross_entropy(hidden, weight, targets, 3).backward()
    assert (hidden.grad is None) == (learned == "weight")
    assert (weight.grad is None) == (learned == "hidden")


def test_without_gradients_the_value_is_the_same() -> None:
    hidden, weight, targets = random_inputs(7, 4, 9)
    with torch.no_grad():
        value = chunked_cross_entropy(hidden, weight.requires_grad_(), targets, 3)
    torch.testing.assert_close(value, plain_cross_entropy(hidden, weight, targets).detach())
    assert not value.requires_grad


def test_large_logits_do_not_overflow() -> None:
    hidden, weight, targets = random_inputs(8, 4, 9)
    chunked = value_and_gradients(chunked_cross_entropy, hidden * 1000, weight * 100, targets, 3)
    plain = value_and_gradients(plain_cross_entropy, hidden * 1000, weight * 100, targets)
    for ours, expected in zip(chunked, plain):
        assert ours.isfinite().all()
        torch.testing.assert_close(ours, expected, atol=1e-2, rtol=1e-4)


def test_bf16_activations_with_an_fp32_weight_stay_close() -> None:
    hidden, weight, targets = random_inputs(20, 8, 50)
    chunked = value_and_gradients(chunked_cross_entropy, hidden.bfloat16(), weight, targets, 6)
    plain = value_and_gradients(plain_cross_entropy, hidden, weight, targets)
    assert [x.dtype for x in chunked] == [torch.float32, torch.bfloat16, torch.float32]
    for ours, expected in zip(chunked, plain):
        torch.testing.assert_close(ours.float(), expected, atol=0.05, rtol=0.05)
