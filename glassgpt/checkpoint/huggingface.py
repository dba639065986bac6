"""Hugging Face's names and shapes of the weights <-> ours, one table for both directions.

GPT-2's tensors have two peculiarities: its linear layers (`Conv1D`) keep their matrices transposed; query,
key and value are one fused matrix, with a bias of zeros where ours has none.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from glassgpt.checkpoint.huggingface_config import config_from_huggingface, config_to_huggingface
from glassgpt.config import GPTConfig
from glassgpt.model import GPTModel
from glassgpt.settings import InputError

__all__ = [
    "check_huggingface_weights",
    "config_from_huggingface",
    "config_to_huggingface",
    "load_huggingface_weights",
    "weights_to_huggingface",
]

_GPT2_BLOCK = {
    "ln_1.weight": "attention_norm.scale",
    "ln_1.bias": "attention_norm.shift",
    "attn.c_attn.weight": "attention.query.weight attention.key.weight attention.value.weight",
    "attn.c_attn.bias": "attention.query.bias attention.key.bias attention.value.bias",
    "attn.c_proj.weight": "attention.output_projection.weight",
    "attn.c_proj.bias": "attention.output_projection.bias",
    "ln_2.weight": "feed_forward_norm.scale",
    "ln_2.bias": "feed_forward_norm.shift",
    "mlp.c_fc.weight": "feed_forward.up.weight",
    "mlp.c_fc.bias": "feed_forward.up.bias",
    "mlp.c_proj.weight": "feed_forward.down.weight",
    "mlp.c_proj.bias": "feed_forward.down.bias",
}
_GPT2_ENDS = {
    "wte.weight": "token_embedding.weight",
    "wpe.weight": "position_embedding.weight",
    "ln_f.weight": "final_norm.scale",
    "ln_f.bias": "final_norm.shift",
}
_MODERN_BLOCK = {
    "input_layernorm.weight": "attention_norm.scale",
    "self_attn.q_proj.weight": "attention.query.weight",
    "self_attn.k_proj.weight": "attention.key.weight",
    "self_attn.v_proj.weight": "attention.value.weight",
    "self_attn.o_proj.weight": "attention.output_projection.weight",
    "self_attn.q_norm.weight": "attention.query_norm.scale",
    "self_attn.k_norm.weight": "attention.key_norm.scale",
    "post_attention_layernorm.weight": "feed_forward_norm.scale",
    "mlp.gate_proj.weight": "feed_forward.gate.weight",
    "mlp.up_proj.weight": "feed_forward.up.weight",
    "mlp.down_proj.weight": "feed_forward.down.weight",
}
_MODERN_ENDS = {"embed_tokens.weight": "token_embedding.weight", "norm.weight": "final_norm.scale"}

_PREFIX = {"gpt2": "transformer.", "modern": "model."}
_HEAD = "lm_head.weight"
_CONV1D = re.compile(r".*\.c_(attn|proj|fc)\.weight")
_BUFFERS = re.compile(r".*\.(attn\.bias|attn\.masked_bias|rotary_emb\.inv_freq)")
"""Constants that older versions of transformers saved among the weights."""
_FLOATS = (torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class _Place:
    """Where one tensor of theirs lives in our model: the parameters that it is made of, row after row.

    No parameters means the bias of query, key and value in a model that has none.
    """

    theirs: str
    ours: tuple[Tensor, ...]
    transposed: bool
    shape: tuple[int, ...]


def weights_to_huggingface(model: GPTModel) -> dict[str, Tensor]:
    """The weights under Hugging Face's names. Most are views of the model's own, transposed ones included."""
    tensors = {}
    for place in _places(model):
        parts = [part.detach() for part in place.ours]
        if not parts:
            tensors[place.theirs] = model.token_embedding.weight.new_zeros(place.shape)
            continue
        whole = parts[0] if len(parts) == 1 else torch.cat(parts)
        tensors[place.theirs] = whole.T if place.transposed else whole
    return tensors


@torch.no_grad()
def load_huggingface_weights(model: GPTModel, tensors: Mapping[str, Tensor], name: str) -> None:
    """Copy `tensors` into the model, one at a time, converted to its dtype and device.

    Raises InputError, before anything is copied, as `check_huggingface_weights` does.
    """
    tensors = check_huggingface_weights(model, tensors, name)
    for place in _places(model):
        tensor = tensors[place.theirs]
        rows = tensor.T if place.transposed else tensor
        start = 0
        for part in place.ours:
            part.copy_(rows[start : start + len(part)])
            start += len(part)


def check_huggingface_weights(model: GPTModel, tensors: Mapping[str, Tensor], name: str) -> Mapping[str, Tensor]:
    """The tensors that `model` takes, under their full names. The model may be on the meta device.

    Raises InputError naming the tensor and the file `name` where one is missing, superfluous, or of a wrong
    shape or dtype.
    """
    tensors = _Renamed(tensors, model.config)
    places = {place.theirs: place for place in _places(model)}
    if missing := [theirs for theirs in places if theirs not in tensors]:
        raise InputError(f"{name} lacks the tensor {missing[0]}, which its config.json asks for")
    embedding = next(iter(places))
    written_twice = model.config.tie_embeddings and _HEAD in tensors
    if written_twice:  # as some tools do with the matrix that embedding and head share
        places[_HEAD] = places[embedding]
    if superfluous := [theirs for theirs in tensors if theirs not in places]:
        raise InputError(f"{name} holds the tensor {superfluous[0]}, for which its config.json has no place")
    for theirs, place in places.items():
        tensor = tensors[theirs]
        if tuple(tensor.shape) != place.shape:
            shapes = f"{tuple(tensor.shape)}, but its config.json asks for {place.shape}"
            raise InputError(f"{name}: tensor {theirs} has the shape {shapes}")
        if tensor.dtype not in _FLOATS:
            kinds = "float32, float16 or bfloat16"
            raise InputError(f"{name}: tensor {theirs} is {tensor.dtype}, but must be {kinds}")
        if not place.ours and tensor.any():
            raise InputError(f"{name}: tensor {theirs} is not zero, though its config.json says qkv_bias false")
    if written_twice and not torch.equal(tensors[_HEAD].float(), tensors[embedding].float()):
        raise InputError(f"{name}: tensor {_HEAD} is not {embedding}, though its config.json says they are tied")
    return tensors


class _Renamed(Mapping[str, Tensor]):
    """Tensors as today's transformers name them: with the prefix that OpenAI's file lacks, no buffers."""

    def __init__(self, tensors: Mapping[str, Tensor], config: GPTConfig) -> None:
        self._tensors = tensors
        bare = config.architecture == "gpt2" and not any(name.startswith("transformer.") for name in tensors)
        kept = [name for name in tensors if not _BUFFERS.fullmatch(name)]
        self._stored = {f"transformer.{name}" if bare and name != _HEAD else name: name for name in kept}

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[self._stored[name]]

    def __contains__(self, name: object) -> bool:
        return name in self._stored

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)


def _places(model: GPTModel) -> Iterator[_Place]:
    """Every tensor of theirs."""
    config = model.config
    gpt2 = config.architecture == "gpt2"
    ends, block, blocks = (_GPT2_ENDS, _GPT2_BLOCK, "h") if gpt2 else (_MODERN_ENDS, _MODERN_BLOCK, "layers")
    for theirs, ours in ends.items():
        yield _place(model, _PREFIX[config.architecture] + theirs, ours)
    for layer, module in enumerate(model.blocks):
        for theirs, ours in block.items():
            name = f"{_PREFIX[config.architecture]}{blocks}.{layer}.{theirs}"
            if theirs == "attn.c_attn.bias" and not config.qkv_bias:
                yield _Place(name, (), False, (3 * config.embedding_dim,))
            elif config.qk_norm or not theirs.endswith(("q_norm.weight", "k_norm.weight")):
                yield _place(module, name, ours)
    if not config.tie_embeddings:
        yield _place(model, _HEAD, "output_head.weight")


def _place(module: nn.Module, theirs: str, ours: str) -> _Place:
    parts = tuple(module.get_parameter(name) for name in ours.split())
    shape = (sum(len(part) for part in parts), *parts[0].shape[1:])
    transposed = _CONV1D.fullmatch(theirs) is not None
    return _Place(theirs, parts, transposed, shape[::-1] if transposed else shape)
