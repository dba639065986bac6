import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from glassgpt.config import GPTConfig
from glassgpt.model import GPTModel
from glassgpt.ops.linear import OneDnnLinear, has_onednn

sizes = st.integers(1, 70)


@settings(max_examples=60, deadline=None)
@given(batch=sizes, tokens=sizes, n_in=sizes, n_out=sizes, bias=st.booleans(), seed=st.integers(0, 2**31))
def test_values_and_gradients_equal_those_of_the_plain_product(
    batch: int, tokens: int, n_in: int, n_out: int, bias: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    layer = torch.nn.Linear(n_in, n_out, bias=bias)
    x = torch.randn(batch, tokens, n_in, requires_grad=True)
    towards = torch.randn(batch, tokens, n_out)
    wanted = torch.autograd.grad((F.linear(x, layer.weight, layer.bias) * towards).sum(), [x, *layer.parameters()])
    with OneDnnLinear():
        y = layer(x)
        with torch.no_grad():
            torch.testing.assert_close(layer(x), y)
    found = torch.autograd.grad((y * towards).sum(), [x, *layer.parameters()])
    for ours, theirs in zip(found, wanted, strict=True):
        scale = max(1.0, float(theirs.abs().max()))
        torch.testing.assert_close(ours / scale, theirs / scale, atol=2e-5, rtol=0)


@pytest.mark.skipif(not has_onednn(), reason="this build of PyTorch has no oneDNN for this processor")
def test_the_other_kernel_really_runs_and_only_inside_the_block() -> None:
    model = GPTModel(GPTConfig(vocab_size=50, context_length=8, embedding_dim=16, n_heads=2, n_layers=1))
    ids = torch.arange(8)[None]

    def kernels() -> set[str]:
        with torch.profiler.profile() as profile:
            model(ids)
        return {event.key for event in profile.key_averages()}

    with OneDnnLinear():
        inside = kernels()
    assert any("mkldnn" in name for name in inside)
    assert not any("mkldnn" in name for name in kernels())


def test_under_autocast_and_in_other_precisions_the_plain_product_runs() -> None:
    layer = torch.nn.Linear(4, 4)
    with OneDnnLinear():
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(torch.ones(2, 4)).dtype == torch.bfloat16
        assert layer.double()(torch.ones(2, 4, dtype=torch.float64)).dtype == torch.float64
        assert F.linear(torch.ones(3), torch.ones(4, 3)).shape == (4,)
