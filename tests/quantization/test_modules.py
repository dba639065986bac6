"""A quantised model computes what its dequantised weights do, in less memory."""

import copy

import pytest
import torch
from checkpoint.tiny_models import CONFIGS, random_model, some_ids
from torch import nn

from glassgpt.generation.generate import generate
from glassgpt.generation.sampling import Sampling
from glassgpt.model import GPTModel
from glassgpt.native.packing import unpack
from glassgpt.quantization.formats import Format
from glassgpt.quantization.modules import QuantizedMatrix, is_quantized, quantize
from glassgpt.quantization.panels import packed
from glassgpt.settings import InputError


@torch.no_grad()
def dequantized(model: GPTModel, kind: Format) -> GPTModel:
    model = copy.deepcopy(model)
    matrices = {module.weight for module in model.modules() if type(module) in (nn.Linear, nn.Embedding)}
    for matrix in matrices:
        matrix.copy_(torch.from_numpy(unpack(packed(matrix, kind))))
    return model


@pytest.mark.parametrize("kind", ["int8", "int4"])
@pytest.mark.parametrize("name", CONFIGS)
@torch.inference_mode()
def test_every_shape_of_model_computes_what_its_dequantised_weights_do(
    name: str, kind: Format, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glassgpt.quantization.modules._PIECE", 24 * 10)  # several pieces a matrix
    model = random_model(CONFIGS[name])
    expected = dequantized(model, kind)
    quantize(model, kind)
    ids = some_ids(model.config.vocab_size, 9)
    torch.testing.assert_close(model(ids), expected(ids), rtol=0, atol=1e-5)
    assert not any(type(module) in (nn.Linear, nn.Embedding) for module in model.modules())


@pytest.mark.parametrize(("kind", "bits"), [("int8", 8.25), ("int4", 4.5)])
def test_the_weights_take_as_many_bits_as_the_format_says(kind: Format, bits: float) -> None:
    matrix = QuantizedMatrix(torch.randn(48, 128), kind)
    n_bytes = sum(buffer.nbytes for buffer in matrix.buffers())
    assert 8 * n_bytes / (48 * 128) == bits
    assert not list(matrix.parameters())


def test_a_tied_head_and_embedding_stay_one_matrix() -> None:
    model = random_model(CONFIGS["gpt2-tied"])
    quantize(model, "int8")
    assert model.output_head.matrix is model.token_embedding.matrix


def test_positions_norms_and_biases_stay_as_they_are() -> None:
    model = random_model(CONFIGS["gpt2-bias"])
    before = dict(model.named_parameters())
    quantize(model, "int4")
    after = dict(model.named_parameters())
    assert set(after) == {name for name in before if not name.endswith("weight") or name.startswith("position")}
    assert all(after[name] is before[name] for name in after)


def test_a_quantised_model_generates_and_keeps_its_type() -> None:
    model = random_model(CONFIGS["qwen3-grouped-tied"]).bfloat16()
    quantize(model, "int8")
    assert len(list(generate(model, [1, 2], max_new_tokens=5, sampling=Sampling(temperature=0)))) == 5
    with torch.inference_mode():
        assert model(some_ids(61, 4)).dtype == torch.bfloat16


def test_quantising_twice_is_refused() -> None:
    model = random_model(CONFIGS["llama"])
    quantize(model, "int8")
    assert is_quantized(model)
    with pytest.raises(InputError, match="quantised already"):
        quantize(model, "int4")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(value: float) -> None:
    model = random_model(CONFIGS["gpt2"])
    with torch.no_grad():
        model.blocks[1].feed_forward.up.weight[0, 0] = value
    with pytest.raises(InputError, match=r"blocks\.1\.feed_forward\.up\.weight has values that are not finite"):
        quantize(model, "int8")
