import contextlib
from types import SimpleNamespace

import torch
import torch.nn.functional as F

from glassgpt.ops.tied import TiedWeight


def test_the_gradient_is_the_sum_of_both_uses() -> None:
    generator = torch.Generator().manual_seed(0)
    weight, ids = torch.randn(9, 4, generator=generator), torch.tensor([[3, 3, 5], [0, 8, 3]])
    found = []
    for tied in (True, False):
        matrix = weight.clone().requires_grad_()
        with TiedWeight(matrix) as shared:
            rows = F.embedding(ids, matrix if tied else matrix.view_as(matrix))
        assert (shared.head is matrix) != tied
        (rows.sin().sum() + (rows.detach() @ shared.head.T).cos().sum()).backward()
        found.append(matrix.grad)
    torch.testing.assert_close(found[0], found[1])


def test_a_second_use_of_the_rows_and_a_padding_row_keep_their_meaning() -> None:
    ids = torch.tensor([1, 0, 2])
    found = []
    for used in (TiedWeight, lambda weight: contextlib.nullcontext(SimpleNamespace(head=weight))):
        weight = torch.ones(4, 3, requires_grad=True)
        with used(weight) as shared:
            twice = F.embedding(ids, weight) * F.embedding(ids, weight, padding_idx=0)
        (twice.sum() + shared.head.sum()).backward()
        found.append(weight.grad)
    assert torch.equal(*found)


def test_other_lookups_are_left_alone() -> None:
    weight, other = torch.randn(9, 4, requires_grad=True), torch.randn(7, 4)
    with TiedWeight(weight) as shared:
        assert torch.equal(F.embedding(torch.tensor([2]), other), other[2:3])
    assert shared.head is weight
