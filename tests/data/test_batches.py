import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glassgpt.data.batches import Batches
from glassgpt.ops.loss import IGNORED
from glassgpt.settings import InputError


def targets_of_epoch(batches: Batches, epoch: int) -> list[int]:
    """Every target that the windows of an epoch have, found window by window."""
    first = epoch * batches.windows_per_epoch
    found: list[int] = []
    for number in range(first, first + batches.windows_per_epoch):
        _, targets = batches.batch(number // batches.batch_size)
        row = targets[number % batches.batch_size]
        found += row[row != IGNORED].tolist()
    return found


@settings(max_examples=60, deadline=None)
@given(n=st.integers(2, 200), length=st.integers(1, 40), batch=st.integers(1, 7), seed=st.integers(0, 2**40))
def test_every_position_is_a_target_exactly_once_an_epoch(n: int, length: int, batch: int, seed: int) -> None:
    if n <= length:
        return
    batches = Batches(np.arange(n), length, batch, seed)
    for epoch in (0, 1, 2):
        assert sorted(targets_of_epoch(batches, epoch)) == list(range(1, n))


@settings(max_examples=30, deadline=None)
@given(step=st.integers(0, 10**9), seed=st.integers(0, 2**63 - 1))
def test_a_batch_is_a_function_of_seed_and_step_and_targets_follow_inputs(step: int, seed: int) -> None:
    ids = np.arange(1000, dtype=np.uint16)
    inputs, targets = Batches(ids, 16, 4, seed).batch(step)
    again, _ = Batches(ids, 16, 4, seed).batch(step)
    assert torch.equal(inputs, again)
    assert inputs.shape == targets.shape == (4, 16)
    counted = targets != IGNORED
    assert torch.equal(targets[counted], inputs[counted] + 1)


def test_the_order_is_shuffled_and_differs_between_epochs_and_seeds() -> None:
    ids = np.arange(5000)
    first, second = (targets_of_epoch(Batches(ids, 8, 4, 7), epoch) for epoch in (0, 1))
    other_seed = targets_of_epoch(Batches(ids, 8, 4, 8), 0)
    assert first != sorted(first)
    assert first != second
    assert first != other_seed


@settings(max_examples=60, deadline=None)
@given(n=st.integers(12, 200), step=st.integers(0, 10**6), seed=st.integers(0, 2**40), world=st.sampled_from([1, 2, 4]))
def test_the_parts_of_all_processes_are_the_batch(n: int, step: int, seed: int, world: int) -> None:
    batches = Batches(np.arange(n), 11, 8, seed)
    parts = [batches.part(step, rank, world) for rank in range(world)]
    for whole, shares in zip(batches.batch(step), zip(*parts, strict=True), strict=True):
        assert torch.equal(torch.cat(shares), whole)


def test_processes_that_cannot_share_a_batch_evenly_are_refused() -> None:
    with pytest.raises(InputError, match=r"optim\.batch_size is 6, but must be a multiple of the 4 processes"):
        Batches(np.arange(99), 8, 6, 1).part(0, 3, 4)


def test_a_text_shorter_than_the_context_is_refused() -> None:
    with pytest.raises(InputError, match=r"has 64 tokens to train on, but model\.context_length is 64"):
        Batches(np.arange(64), 64, 4, 1)
