"""The native decoder finds the bits per byte that PyTorch does, and those of its roundings."""

import numpy as np
import pytest
import torch

from glassgpt.config import GPTConfig
from glassgpt.evaluation import decoded
from glassgpt.evaluation.bits_per_byte import Evaluation, evaluate, evaluate_with
from glassgpt.evaluation.decoded import nats_on
from glassgpt.model import GPTModel
from glassgpt.native.decoder import Decoder, available
from glassgpt.native.packing import FORMATS, Format, pack

pytestmark = pytest.mark.skipif(not available(), reason="the native code was not built")

IDS = np.random.default_rng(0).integers(0, 50, 1000).astype(np.uint16)
BYTES = np.ones(50, int)


@pytest.fixture(scope="module")
def model() -> GPTModel:
    torch.manual_seed(0)
    config = {"vocab_size": 50, "context_length": 48, "embedding_dim": 64, "n_heads": 2, "n_layers": 2}
    return GPTModel(GPTConfig(**config, qkv_bias=True)).eval()


def found_in(model: GPTModel, kind: Format) -> Evaluation:
    weights = {name: parameter.detach().numpy() for name, parameter in model.named_parameters()}
    matrices = {name for name, array in weights.items() if array.ndim == 2 and name != "position_embedding.weight"}
    decoder = Decoder(
        model.config,
        {name: pack(weights[name], kind) for name in matrices},
        {name: array for name, array in weights.items() if name not in matrices},
        threads=1,
    )
    return evaluate_with(nats_on(decoder), model.config, IDS, BYTES)


def test_fp32_is_what_pytorch_finds(model: GPTModel) -> None:
    expected, found = evaluate(model, IDS, BYTES), found_in(model, "fp32")
    assert found.bits_per_byte == pytest.approx(expected.bits_per_byte, rel=1e-6)
    assert (found.tokens, found.bytes) == (expected.tokens, expected.bytes)


@pytest.mark.parametrize("kind", FORMATS)
def test_windows_in_parts_give_the_same_bits(model: GPTModel, kind: Format, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = found_in(model, kind).nats
    monkeypatch.setattr(decoded, "_SCORES", 7 * 50)
    assert found_in(model, kind).nats == pytest.approx(whole, rel=1e-12)


def test_fewer_bits_cost_more_but_little(model: GPTModel) -> None:
    exact = found_in(model, "fp32").bits_per_byte
    off = {kind: abs(found_in(model, kind).bits_per_byte / exact - 1) for kind in FORMATS}
    assert off["bf16"] < 1e-3
    assert off["int8"] < 1e-3
    assert off["int8"] < off["int4"] < 0.02
