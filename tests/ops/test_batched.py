import time

import pytest
import torch

from glassgpt.ops import batched
from glassgpt.ops.batched import add_batched_product, batched_product, fastest_matmul_dtype


@pytest.mark.parametrize("onednn", [False, True])
def test_a_product_of_stacks_is_that_of_float64(onednn: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not onednn:
        monkeypatch.setattr(batched, "has_onednn", lambda: False)
    generator = torch.Generator().manual_seed(0)
    a, b, c = (torch.randn(shape, generator=generator) for shape in ((3, 5, 7), (3, 4, 7), (3, 5, 4)))
    out = torch.full((3, 5, 4), float("nan"))
    expected = a.double() @ b.mT.double()
    assert torch.allclose(batched_product(a, b.mT, out).double(), expected, atol=1e-5)
    found = add_batched_product(c, a, b.mT, beta=2.0, alpha=-0.5, out=out)
    assert found is out
    assert torch.allclose(found.double(), 2 * c - 0.5 * expected, atol=1e-5)


def test_the_fastest_dtype_is_found_by_a_short_probe() -> None:
    began = time.perf_counter()
    found = fastest_matmul_dtype("cpu")
    assert found in (torch.float32, torch.bfloat16)
    assert time.perf_counter() - began < 2, "30 ms on an idle machine"
