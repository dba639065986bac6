"""config.json of Hugging Face <-> GPTConfig. What our model does not do is refused here, in one line.

Everything that their format can say is said in its words alone, so nothing can contradict it. The few
settings it has no words for lie under the key "glassgpt", which other tools carry along unread.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glassgpt.config import GPTConfig
from glassgpt.files.manifest import CONFIG
from glassgpt.files.reading import read_json
from glassgpt.native.packing import GROUPS
from glassgpt.quantization.formats import FORMATS, Format
from glassgpt.settings import InputError, shown

_NAMES = {
    "vocab_size": "vocab_size", "max_position_embeddings": "context_length", "hidden_size": "embedding_dim",
    "num_hidden_layers": "n_layers", "num_attention_heads": "n_heads", "num_key_value_heads": "n_kv_heads",
    "head_dim": "head_dim", "intermediate_size": "feed_forward_dim", "rms_norm_eps": "norm_eps",
    "tie_word_embeddings": "tie_embeddings", "attention_dropout": "dropout_rate",
}  # fmt: skip
_GPT2_NAMES = {
    "vocab_size": "vocab_size", "n_positions": "context_length", "n_embd": "embedding_dim",
    "n_layer": "n_layers", "n_head": "n_heads", "n_inner": "feed_forward_dim",
    "layer_norm_epsilon": "norm_eps", "resid_pdrop": "dropout_rate", "tie_word_embeddings": "tie_embeddings",
}  # fmt: skip
_OURS_OF_THEIRS = {"gpt2": _GPT2_NAMES, "llama": _NAMES, "qwen3": _NAMES}

_LLAMA_DEFAULTS = {
    "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
    "num_attention_heads": 32, "max_position_embeddings": 2048, "rms_norm_eps": 1e-6, "hidden_act": "silu",
}  # fmt: skip
_DEFAULTS: dict[str, dict[str, Any]] = {
    "gpt2": {
        "vocab_size": 50257, "n_positions": 1024, "n_embd": 768, "n_layer": 12, "n_head": 12,
        "layer_norm_epsilon": 1e-5, "resid_pdrop": 0.1, "tie_word_embeddings": True,
        "activation_function": "gelu_new", "scale_attn_weights": True,
    },
    "llama": _LLAMA_DEFAULTS,
    "qwen3": _LLAMA_DEFAULTS | {
        "vocab_size": 151936, "intermediate_size": 22016, "num_key_value_heads": 32, "head_dim": 128,
        "max_position_embeddings": 32768,
    },
}  # fmt: skip
"""What a value is where config.json leaves it out: as in transformers' own configuration classes."""

_SUPPORTED: dict[str, dict[str, tuple[Any, ...]]] = {
    "gpt2": {
        "activation_function": ("gelu_new", "gelu_pytorch_tanh"), "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False, None), "reorder_and_upcast_attn": (False, None),
        "add_cross_attention": (False, None),
    },
    "llama": {"hidden_act": ("silu", "swish"), "attention_bias": (False, None), "mlp_bias": (False, None)},
    "qwen3": {"hidden_act": ("silu", "swish"), "attention_bias": (False, None)},
}  # fmt: skip
"""Settings that change what a model computes -> the values that our model computes."""

_QUANTIZED = "glassgpt-"
"""Before the model_type of a quantised model."""
_OURS_ALONE = ("qkv_bias", "dropout")
_SIZES = ("vocab_size", "context_length", "embedding_dim", "n_layers", "n_heads", "n_kv_heads", "head_dim",
          "feed_forward_dim")  # fmt: skip
_LARGEST, _MOST_LAYERS = 2**20, 1000
"""Of any size but the vocabulary's; and of layers. A config.json from outside must not make us build for hours."""


def config_to_huggingface(config: GPTConfig, end_of_text: int | None, dtype: str = "float32") -> dict[str, Any]:
    """The config.json of GPT2LMHeadModel, Qwen3ForCausalLM or LlamaForCausalLM, with weights of `dtype`."""
    model_type, architecture = "gpt2", "GPT2LMHeadModel"
    if config.architecture == "modern":
        model_type, architecture = ("qwen3", "Qwen3") if config.qk_norm else ("llama", "Llama")
        architecture += "ForCausalLM"
    values: dict[str, Any] = {"architectures": [architecture], "model_type": model_type}
    values |= {theirs: getattr(config, ours) for theirs, ours in _OURS_OF_THEIRS[model_type].items()}
    values |= {name: options[0] for name, options in _SUPPORTED[model_type].items()}
    if model_type == "gpt2":
        dropout = dict.fromkeys(("embd_pdrop", "attn_pdrop"), config.dropout_rate)
        values |= {"n_ctx": config.context_length, **dropout}
    else:
        rope = {"rope_type": "default", "rope_theta": config.rope_theta}
        values |= {"rope_theta": config.rope_theta, "rope_parameters": rope}
    if model_type == "qwen3":
        values |= {"use_sliding_window": False, "sliding_window": None, "max_window_layers": config.n_layers}
    return values | {
        "bos_token_id": end_of_text,
        "eos_token_id": end_of_text,
        "initializer_range": 0.02,
        "use_cache": True,
        "dtype": dtype,
        "torch_dtype": dtype,
        "glassgpt": {name: getattr(config, name) for name in _OURS_ALONE},
    }


def config_from_huggingface(values: Mapping[str, Any], name: str) -> GPTConfig:
    """The GPTConfig of a config.json whose file is called `name` in errors.

    Raises InputError for what our model would compute differently, and for values that make no sense.
    """
    model_type = values.get("model_type")
    if quantized_format(values, name) and isinstance(model_type, str):
        model_type = model_type.removeprefix(_QUANTIZED)
    if not (isinstance(model_type, str) and model_type in _OURS_OF_THEIRS):
        raise InputError(f"{name} has model_type {shown(model_type)}: only {', '.join(_OURS_OF_THEIRS)} are supported")
    values = _DEFAULTS[model_type] | dict(values)
    for key, supported in _SUPPORTED[model_type].items():
        if values.get(key) not in supported:
            raise InputError(f"{name} has {key} {shown(values.get(key))}: only {supported[0]!r} is supported")

    ours: dict[str, Any] = {"architecture": "gpt2" if model_type == "gpt2" else "modern"}
    if model_type == "gpt2":
        ours |= {"qkv_bias": True}
    else:
        _refuse_sliding_window(values, model_type, name)
        ours |= {"rope_theta": _rope_theta(values, name), "qk_norm": model_type == "qwen3"}
    for theirs, our_name in _OURS_OF_THEIRS[model_type].items():
        if values.get(theirs) is not None:
            ours[our_name] = values[theirs]
    alone = values.get("glassgpt")
    if isinstance(alone, dict):
        ours |= {key: alone[key] for key in _OURS_ALONE if key in alone}
    try:
        config = GPTConfig.from_dict(ours)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    for theirs, our_name in _OURS_OF_THEIRS[model_type].items():
        largest = {"vocab_size": 2**31, "n_layers": _MOST_LAYERS}.get(our_name, _LARGEST)
        if getattr(config, our_name) > largest:
            raise InputError(f"{name} has {theirs} {getattr(config, our_name)}: at most {largest:,} is supported")
    return config


def filled_in(values: Mapping[str, Any]) -> dict[str, Any]:
    """The sizes that a config.json leaves out, in its own words, with what they are taken to be.

    Of a config.json that `config_from_huggingface` accepts.
    """
    model_type = values["model_type"].removeprefix(_QUANTIZED)
    names, usual = _OURS_OF_THEIRS[model_type], _DEFAULTS[model_type]
    missing = usual.keys() - values.keys()
    return {theirs: usual[theirs] for theirs, ours in names.items() if ours in _SIZES and theirs in missing}


def quantized_config(values: Mapping[str, Any], kind: Format) -> dict[str, Any]:
    """The config.json `values` of a model, for the same one quantised.

    Its model_type is one that no other tool has: transformers would else open it, and draw the weights that it misses.
    """
    return {
        **values,
        "model_type": _QUANTIZED + values["model_type"],
        "quantization_config": {"quant_method": "glassgpt", "format": kind, "group_size": GROUPS[kind]},
    }


def quantized_format(values: Mapping[str, Any], name: str) -> Format | None:
    """How the model of a config.json is quantised; None where it is not. Raises InputError for another's way."""
    given = values.get("quantization_config")
    if not given:
        return None
    for kind in FORMATS:
        if given == {"quant_method": "glassgpt", "format": kind, "group_size": GROUPS[kind]}:
            return kind
    ours = f"only GlassGPT's own {' and '.join(FORMATS)} can be opened"
    raise InputError(f"{name} has quantization_config {shown(given)}: {ours}; take the model's unquantised weights")


def load_config(directory: Path) -> GPTConfig:
    """The config of a Hugging Face directory, unchecked against its manifest. Raises InputError."""
    path = directory / CONFIG
    return config_from_huggingface(read_config(path), str(path))


def read_config(path: Path) -> dict[str, Any]:
    """What a config.json holds. Raises InputError where it is no JSON object."""
    try:
        values = read_json(path)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; a model directory has this file") from None
    except ValueError:
        raise InputError(f"{path} is not valid JSON: fetch or save the model again") from None
    if not isinstance(values, dict):
        raise InputError(f"{path} holds no JSON object: fetch or save the model again")
    return values


def _rope_theta(values: Mapping[str, Any], name: str) -> Any:
    """Transformers 5 writes `rope_parameters`, those before it `rope_theta` and `rope_scaling`."""
    rope = values.get("rope_scaling") or values.get("rope_parameters") or {}
    if not isinstance(rope, dict):
        raise InputError(f"{name} has rope_parameters {shown(rope)}: it must be an object")
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        stretched = f"stretches its rotary positions (rope_type {shown(kind)})"
        raise InputError(f"{name} {stretched}: only 'default' is supported")
    if rope.get("partial_rotary_factor", values.get("partial_rotary_factor")) not in (None, 1, 1.0):
        raise InputError(f"{name} has a partial_rotary_factor: only 1 is supported")
    theta = rope.get("rope_theta", values.get("rope_theta"))
    return 10_000.0 if theta is None else theta


def _refuse_sliding_window(values: Mapping[str, Any], model_type: str, name: str) -> None:
    asked = values.get("use_sliding_window", model_type == "llama")
    layers = values.get("layer_types") or []
    full = isinstance(layers, list) and all(layer == "full_attention" for layer in layers)
    if (asked and values.get("sliding_window") is not None) or not full:
        raise InputError(f"{name} has sliding_window or layer_types set: only full attention is supported")
