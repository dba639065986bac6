"""config.json: what it always says, and what is refused."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import CONFIGS

from glassgpt.checkpoint.huggingface_config import config_from_huggingface, config_to_huggingface, load_config
from glassgpt.config import GPTConfig, preset
from glassgpt.settings import InputError

ALWAYS = {
    "architectures", "model_type", "bos_token_id", "eos_token_id", "tie_word_embeddings", "dtype",
    "torch_dtype", "vocab_size", "glassgpt",
}  # fmt: skip
MODERN = {"rope_theta", "rope_parameters", "head_dim", "num_key_value_heads", "attention_bias", "hidden_act"}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_config_json_states_what_other_tools_would_guess(config: GPTConfig) -> None:
    values = config_to_huggingface(config, end_of_text=60)
    assert values.keys() >= (ALWAYS | MODERN if config.architecture == "modern" else ALWAYS)
    assert values["eos_token_id"] == 60
    assert values["dtype"] == values["torch_dtype"] == "float32"
    if config.architecture == "modern":
        assert values["rope_parameters"]["rope_theta"] == values["rope_theta"] == config.rope_theta


def test_what_their_format_can_say_is_said_only_there() -> None:
    values = config_to_huggingface(CONFIGS["gpt2"], None)
    values["n_layer"] = 5
    assert config_from_huggingface(values, "config.json").n_layers == 5


def test_an_empty_gpt2_config_is_gpt2_small() -> None:
    config = config_from_huggingface({"model_type": "gpt2"}, "config.json")
    assert config == GPTConfig.from_dict(preset("gpt2-small"))


@pytest.mark.parametrize("model_type", ["gpt2", "llama", "qwen3"])
def test_values_that_are_left_out_are_those_of_transformers(model_type: str) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoConfig.for_model(model_type).to_dict()
    assert config_from_huggingface(theirs, "theirs") == config_from_huggingface({"model_type": model_type}, "empty")


def test_older_files_give_theta_beside_an_empty_rope_scaling() -> None:
    values = {"model_type": "llama", "rope_theta": 5e5, "rope_scaling": None}
    assert config_from_huggingface(values, "config.json").rope_theta == 5e5


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "model_type None: only gpt2, llama, qwen3 are supported"),
        ({"model_type": "mistral"}, "'mistral'"),
        ({"model_type": ["gpt2"]}, "model_type"),
        ({"model_type": "llama", "rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_type 'linear'"),
        ({"model_type": "llama", "rope_parameters": {"rope_type": "llama3"}}, "rope_type 'llama3'"),
        ({"model_type": "qwen3", "rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rope_type 'yarn'"),
        ({"model_type": "llama", "rope_parameters": "none"}, "must be an object"),
        ({"model_type": "llama", "partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"model_type": "llama", "attention_bias": True}, "attention_bias True"),
        ({"model_type": "llama", "mlp_bias": True}, "mlp_bias True"),
        ({"model_type": "llama", "hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ({"model_type": "llama", "sliding_window": 4096}, "only full attention"),
        ({"model_type": "qwen3", "use_sliding_window": True, "sliding_window": 4096}, "only full attention"),
        ({"model_type": "qwen3", "layer_types": ["sliding_attention"]}, "only full attention"),
        ({"model_type": "qwen3", "layer_types": 7}, "only full attention"),
        ({"model_type": "gpt2", "activation_function": "relu"}, "activation_function 'relu'"),
        ({"model_type": "gpt2", "scale_attn_weights": False}, "scale_attn_weights False"),
        ({"model_type": "gpt2", "scale_attn_by_inverse_layer_idx": True}, "inverse_layer_idx True"),
        ({"model_type": "gpt2", "reorder_and_upcast_attn": True}, "reorder_and_upcast_attn True"),
        ({"model_type": "gpt2", "add_cross_attention": True}, "add_cross_attention True"),
        ({"model_type": "gpt2", "quantization_config": {"bits": 4}}, "quantization_config"),
        ({"model_type": "gpt2", "n_head": 5}, "model.n_heads is 5"),
        ({"model_type": "gpt2", "n_layer": "many"}, "model.n_layers is 'many'"),
        ({"model_type": "gpt2", "n_layer": 10**9}, "n_layers is 1000000000"),
        ({"model_type": "llama", "max_position_embeddings": 10**12}, "context_length is 1000000000000"),
    ],
)  # fmt: skip
def test_what_our_model_would_compute_differently_is_refused_in_one_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as refused:
        config_from_huggingface(values, "some/config.json")
    assert "some/config.json" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_inactive_sliding_window_is_fine() -> None:
    values = {"model_type": "qwen3", "use_sliding_window": False, "sliding_window": 4096}
    assert config_from_huggingface(values, "config.json").qk_norm


NO_CONFIGS = [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"model_type": NaN}']


@pytest.mark.parametrize("content", NO_CONFIGS)
def test_a_config_json_that_is_none_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(InputError, match=r"config\.json"):
        load_config(tmp_path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KEYS = [
    *config_to_huggingface(CONFIGS["gpt2"], None), *config_to_huggingface(CONFIGS["qwen3"], None),
    "rope_scaling", "sliding_window", "layer_types", "mlp_bias", "quantization_config",
    "partial_rotary_factor",
]  # fmt: skip


@given(
    model_type=st.sampled_from(["gpt2", "llama", "qwen3"]),
    values=st.dictionaries(st.sampled_from(KEYS), json_values, max_size=4),
)
def test_no_config_json_ends_in_a_traceback(model_type: str, values: dict[str, Any]) -> None:
    values = json.loads(json.dumps(values | {"model_type": model_type}))
    with contextlib.suppress(InputError):
        config_from_huggingface(values, "config.json")
