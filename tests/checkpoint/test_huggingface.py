"""Our models and those of transformers are the same models: logits, names, shapes, bits."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import CONFIGS, random_model, randomise, same_weights, some_ids, stored
from torch import Tensor, nn

from glassgpt.checkpoint.directory import load_model, save_checkpoint
from glassgpt.checkpoint.huggingface import (
    config_from_huggingface,
    config_to_huggingface,
    load_huggingface_weights,
    weights_to_huggingface,
)
from glassgpt.checkpoint.names import fitting, places
from glassgpt.config import GPTConfig
from glassgpt.model import GPTModel
from glassgpt.settings import InputError
from glassgpt.text.kinds import train_tokenizer

transformers = pytest.importorskip("transformers")
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

every_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


@torch.no_grad()
def assert_equal_logits(ours: GPTModel, theirs: nn.Module) -> None:
    ids = some_ids(ours.config.vocab_size, ours.config.context_length)
    a, b = ours(ids), theirs(ids).logits
    scale = max(1.0, float(b.abs().max()))
    assert scale > 1.5, "the logits are too small to tell anything"
    assert float((a - b).abs().max()) <= 1e-5 * scale


@every_config
def test_transformers_opens_our_directory(config: GPTConfig, tmp_path: Path) -> None:
    model = random_model(config)
    save_checkpoint(tmp_path / "model", model, None)
    theirs, info = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not [name for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") for name in info[kind]]
    assert theirs.dtype == torch.float32
    assert_equal_logits(model, theirs.eval())


THEIRS = {
    "gpt2": lambda: transformers.GPT2Config(vocab_size=61, n_positions=16, n_embd=24, n_layer=2, n_head=3),
    "gpt2-untied": lambda: transformers.GPT2Config(
        vocab_size=61, n_positions=16, n_embd=24, n_layer=2, n_head=3, n_inner=30, tie_word_embeddings=False,
        activation_function="gelu_pytorch_tanh", layer_norm_epsilon=1e-4,
    ),
    "llama": lambda: transformers.LlamaConfig(
        vocab_size=61, max_position_embeddings=16, hidden_size=24, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=50, pad_token_id=None, bos_token_id=1, eos_token_id=2,
    ),
    "llama-grouped": lambda: transformers.LlamaConfig(
        vocab_size=61, max_position_embeddings=16, hidden_size=24, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=10, intermediate_size=50, tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 500.0},
    ),
    "qwen3": lambda: transformers.Qwen3Config(
        vocab_size=61, max_position_embeddings=16, hidden_size=24, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=12, intermediate_size=50,
    ),
    "qwen3-tied": lambda: transformers.Qwen3Config(
        vocab_size=61, max_position_embeddings=16, hidden_size=24, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, intermediate_size=50, tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", THEIRS)
@pytest.mark.parametrize("max_shard_size", ["5GB", "8KB"], ids=["one file", "sharded"])
def test_we_open_what_transformers_saved(name: str, max_shard_size: str, tmp_path: Path) -> None:
    theirs = transformers.AutoModelForCausalLM.from_config(THEIRS[name]()).eval()
    randomise(theirs)
    theirs.save_pretrained(tmp_path, max_shard_size=max_shard_size)
    assert (tmp_path / "model.safetensors.index.json").exists() == (max_shard_size == "8KB")
    assert_equal_logits(load_model(tmp_path), theirs)


def test_the_comparison_of_logits_can_fail(tmp_path: Path) -> None:
    theirs = transformers.AutoModelForCausalLM.from_config(THEIRS["qwen3"]()).eval()
    randomise(theirs)
    theirs.save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    values["rope_parameters"]["rope_theta"] *= 1.1
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(AssertionError):
        assert_equal_logits(load_model(tmp_path), theirs)


@every_config
def test_saved_and_loaded_is_the_same_bit_for_bit(config: GPTConfig, tmp_path: Path) -> None:
    model = random_model(config)
    save_checkpoint(tmp_path / "model", model, None)
    loaded = load_model(tmp_path / "model")
    assert same_weights(model, loaded)
    ids = some_ids(config.vocab_size, config.context_length)
    assert torch.equal(model(ids), loaded(ids))


@settings(max_examples=40, deadline=None)
@given(
    modern=st.booleans(), qk_norm=st.booleans(), bias=st.booleans(), tied=st.booleans(),
    groups=st.integers(1, 3), n_kv_heads=st.integers(1, 3), half_head=st.integers(1, 4),
    n_layers=st.integers(1, 3), feed_forward_dim=st.integers(0, 9), theta=st.floats(10, 1e7),
    eps=st.floats(1e-12, 0.1), dropout_rate=st.floats(0, 0.9),
)  # fmt: skip
def test_any_config_and_its_weights_survive_the_two_translations(
    modern: bool, qk_norm: bool, bias: bool, tied: bool, groups: int, n_kv_heads: int, half_head: int,
    n_layers: int, feed_forward_dim: int, theta: float, eps: float, dropout_rate: float,
) -> None:  # fmt: skip
    n_heads = groups * n_kv_heads
    config = GPTConfig(
        architecture="modern" if modern else "gpt2", vocab_size=7, context_length=5, n_layers=n_layers,
        n_heads=n_heads, n_kv_heads=n_kv_heads if modern else n_heads, tie_embeddings=tied,
        embedding_dim=5 if modern else 2 * half_head * n_heads, head_dim=2 * half_head, norm_eps=eps,
        feed_forward_dim=feed_forward_dim, dropout_rate=dropout_rate,
        **({"qk_norm": qk_norm, "rope_theta": theta} if modern else {"qkv_bias": bias}),
    )  # fmt: skip
    values = json.loads(json.dumps(config_to_huggingface(config, end_of_text=6)))
    assert config_from_huggingface(values, "config.json") == config
    model, other = random_model(config, 0), random_model(config, 1)
    load_huggingface_weights(other, fitting(other.config, stored(weights_to_huggingface(model)), "model.safetensors"))
    assert same_weights(model, other)


def test_every_parameter_is_saved() -> None:
    for config in CONFIGS.values():
        model = random_model(config)
        tensors = weights_to_huggingface(model)
        n_zeros = 0 if config.qkv_bias or config.architecture == "modern" else 3 * config.embedding_dim
        n_saved = sum(tensor.numel() for tensor in tensors.values()) - n_zeros * config.n_layers
        assert n_saved == sum(parameter.numel() for parameter in model.parameters())


def test_settings_without_a_word_of_theirs_survive_transformers(tmp_path: Path) -> None:
    model = random_model(CONFIGS["gpt2"])
    save_checkpoint(tmp_path / "ours", model, None)
    transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "theirs")
    assert not load_model(tmp_path / "theirs").config.qkv_bias
    assert same_weights(load_model(tmp_path / "theirs"), model)


def test_a_directory_with_its_tokenizer_opens_as_it_lies(tmp_path: Path) -> None:
    tokenizer = train_tokenizer("bytes", [])
    config = GPTConfig(vocab_size=tokenizer.vocab_size, context_length=32, embedding_dim=16, n_heads=2, n_layers=1)
    model = random_model(config)
    save_checkpoint(tmp_path / "model", model, tokenizer)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    text = "Zoë wrote: <|endoftext|> 漢字"
    ids = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")(text)["input_ids"]
    assert ids == tokenizer.encode(text)
    assert theirs.config.eos_token_id == theirs.config.bos_token_id == tokenizer.end_of_text


@pytest.mark.parametrize("shape", CONFIGS)
def test_the_table_names_every_parameter_once_and_knows_its_shape(shape: str) -> None:
    model = GPTModel(CONFIGS[shape])
    found = {}
    for place in places(model.config):
        parts = [model.get_parameter(name) for name in place.ours]
        assert [len(part) for part in parts] == [*place.n_rows]
        whole = (sum(place.n_rows), *parts[0].shape[1:]) if parts else place.shape
        assert place.shape == (whole[::-1] if place.transposed else whole)
        found |= dict.fromkeys(place.ours, place)
    assert found.keys() == {name for name, _ in model.named_parameters()}


def gpt2_file(**changes: Tensor | None) -> tuple[GPTModel, dict[str, Tensor]]:
    """A model and tensors for it; None leaves a tensor out, `/` in a name stands for the dot."""
    model = random_model(CONFIGS["gpt2-tied-bias"])
    tensors = {name: tensor.clone() for name, tensor in weights_to_huggingface(model).items()}
    for name, tensor in changes.items():
        tensors.pop(name.replace("/", "."), None)
        if tensor is not None:
            tensors[name.replace("/", ".")] = tensor
    return model, tensors


def test_openai_s_own_file_lacks_the_prefix_and_holds_masks() -> None:
    model, tensors = gpt2_file()
    bare = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    bare |= {"h.0.attn.bias": torch.ones(1, 1, 16, 16), "h.0.attn.masked_bias": torch.tensor(-1e4)}
    other = random_model(model.config, seed=5)
    load_huggingface_weights(other, fitting(other.config, stored(bare), "model.safetensors"))
    assert same_weights(model, other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"transformer/h/1/ln_2/bias": None}, "lacks the tensor transformer.h.1.ln_2.bias"),
        ({"transformer/h/7/ln_2/bias": torch.ones(24)}, "holds the tensor transformer.h.7.ln_2.bias"),
        ({"transformer/wpe/weight": torch.ones(17, 24)}, r"transformer.wpe.weight has the shape \(17, 24\)"),
        (
            {"transformer/ln_f/weight": torch.ones(24, dtype=torch.int8)},
            "transformer.ln_f.weight is I8, but must be F32 or F16 or BF16",
        ),
        ({"transformer/ln_f/weight": torch.ones(24).double()}, "transformer.ln_f.weight is F64"),
        ({"lm_head/weight": torch.ones(61, 24)}, "lm_head.weight is not transformer.wte.weight"),
    ],
)
def test_tensors_that_do_not_fit_are_named(changes: dict[str, Tensor | None], message: str) -> None:
    model, tensors = gpt2_file(**changes)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    with pytest.raises(InputError, match=message) as refused:
        load_huggingface_weights(model, fitting(model.config, stored(tensors), "some/model.safetensors"))
    assert "some/model.safetensors" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert all(torch.equal(before[name], parameter) for name, parameter in model.named_parameters())


def test_a_shared_head_that_is_written_twice_is_accepted() -> None:
    model, tensors = gpt2_file()
    twice = tensors | {"lm_head.weight": tensors["transformer.wte.weight"]}
    load_huggingface_weights(model, fitting(model.config, stored(twice), "file"))


def test_biases_that_the_config_denies_are_not_dropped_silently() -> None:
    model = random_model(CONFIGS["gpt2"])
    tensors = weights_to_huggingface(model)
    tensors["transformer.h.0.attn.c_attn.bias"] = torch.full((72,), 1e-3)
    with pytest.raises(InputError, match=r"transformer\.h\.0\.attn\.c_attn\.bias is not zero"):
        load_huggingface_weights(model, fitting(model.config, stored(tensors), "file"))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_files_are_read_as_float32(dtype: torch.dtype, tmp_path: Path) -> None:
    model = random_model(CONFIGS["qwen3"]).to(dtype)
    save_checkpoint(tmp_path / "model", model, None)
    assert json.loads((tmp_path / "model/config.json").read_text())["dtype"] == str(dtype).removeprefix("torch.")
    assert same_weights(load_model(tmp_path / "model"), model.float())
    half = load_model(tmp_path / "model", dtype=dtype)
    assert {parameter.dtype for parameter in half.parameters()} == {dtype}
    assert half(some_ids(61, 16)).dtype == dtype


@pytest.mark.slow
def test_gpt2_small_s_logits_equal_those_of_transformers(tmp_path: Path) -> None:
    theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config()).eval()
    randomise(theirs)
    theirs.save_pretrained(tmp_path)
    model = load_model(tmp_path)
    ids = some_ids(50257, 64)
    with torch.no_grad():
        a, b = model(ids), theirs(ids).logits
    assert float((a - b).abs().max()) <= 1e-5 * max(1.0, float(b.abs().max()))
