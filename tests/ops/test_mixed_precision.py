import pytest
import torch
from torch import Tensor

from glassgpt.config import GPTConfig
from glassgpt.model import GPTModel
from glassgpt.ops.mixed_precision import MixedPrecision


def small_model(architecture: str) -> GPTModel:
    torch.manual_seed(0)
    values = {"n_kv_heads": 2} if architecture == "modern" else {"qkv_bias": True}
    return GPTModel(
        GPTConfig.from_dict(
            {"architecture": architecture, "vocab_size": 40, "context_length": 24, "embedding_dim": 32, "n_heads": 4,
             "n_layers": 2} | values
        )
    )  # fmt: skip


def gradients(model: GPTModel, ids: Tensor) -> list[Tensor]:
    towards = torch.randn(*ids.shape, 32, generator=torch.Generator().manual_seed(1))
    hidden = model.hidden(ids)
    # The head is not used, and the bias of a key moves all scores of a query alike: its gradient is 0.
    used = [p for name, p in model.named_parameters() if "output_head" not in name and "key.bias" not in name]
    return [hidden, *torch.autograd.grad((hidden.float() * towards).sum(), used)]


@pytest.mark.parametrize("architecture", ["gpt2", "modern"])
def test_values_and_gradients_are_those_of_fp32_to_two_digits_and_gradients_stay_fp32(architecture: str) -> None:
    model, ids = small_model(architecture), torch.randint(40, (3, 24))
    expected = gradients(model, ids)
    with MixedPrecision():
        hidden, *found = gradients(model, ids)
    assert hidden.dtype == torch.bfloat16
    assert {gradient.dtype for gradient in found} == {torch.float32}
    for ours, full in zip([hidden, *found], expected, strict=True):
        assert float((ours.float() - full).norm() / full.norm()) < 0.03


def test_our_own_products_and_attention_run_inside_the_block_only() -> None:
    model, ids = small_model("gpt2"), torch.randint(40, (2, 24))

    def steps() -> set[str]:
        with torch.profiler.profile() as profile:
            model.hidden(ids)
        return {event.key for event in profile.key_averages()}

    with MixedPrecision():
        assert {"_Product", "_Bf16Attention"} <= steps()
    assert not {"_Product", "_Bf16Attention"} & steps()
    assert not torch.is_autocast_enabled("cpu")


def test_what_has_no_kernel_of_ours_runs_in_bf16_as_well() -> None:
    a, b = torch.randn(3, 4), torch.randn(4, 5)
    with MixedPrecision():
        assert (a @ b).dtype == torch.bfloat16
        with torch.no_grad():
            assert torch.nn.functional.linear(a, b.T).dtype == torch.bfloat16
