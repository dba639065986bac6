"""Hugging Face's names and shapes of the weights and ours: one table, for reading and writing, with PyTorch or not.

GPT-2's tensors have two peculiarities: its linear layers (`Conv1D`) keep their matrices transposed; query,
key and value are one fused matrix, with a bias of zeros where ours has none.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from glassgpt.checkpoint.stored import StoredTensor
from glassgpt.config import GPTConfig
from glassgpt.native.decoder import expected_shapes
from glassgpt.settings import InputError

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
_FLOATS = ("F32", "F16", "BF16")


@dataclass(frozen=True)
class Place:
    """Where one tensor of theirs lives in our model: the parameters that it is made of, row after row.

    No parameters means the bias of query, key and value in a model that has none.
    """

    theirs: str
    ours: tuple[str, ...]
    n_rows: tuple[int, ...]
    """Of each parameter."""
    transposed: bool
    shape: tuple[int, ...]
    """Of theirs, as it is stored."""


def places(config: GPTConfig) -> Iterator[Place]:
    """Every tensor of theirs; the first is the token embedding."""
    gpt2 = config.architecture == "gpt2"
    ends, block, blocks = (_GPT2_ENDS, _GPT2_BLOCK, "h") if gpt2 else (_MODERN_ENDS, _MODERN_BLOCK, "layers")
    prefix, known = _PREFIX[config.architecture], dict(expected_shapes(config))
    for theirs, ours in ends.items():
        yield _place(known, prefix + theirs, ours)
    for layer in range(config.n_layers):
        for theirs, ours in block.items():
            name = f"{prefix}{blocks}.{layer}.{theirs}"
            if theirs == "attn.c_attn.bias" and not config.qkv_bias:
                yield Place(name, (), (), False, (3 * config.embedding_dim,))
            elif config.qk_norm or not theirs.endswith(("q_norm.weight", "k_norm.weight")):
                yield _place(known, name, " ".join(f"blocks.{layer}.{part}" for part in ours.split()))
    if not config.tie_embeddings:
        yield _place(known, _HEAD, "output_head.weight")


def fitting(
    config: GPTConfig, tensors: Mapping[str, StoredTensor], name: str, only: Iterable[Place] | None = None
) -> dict[str, StoredTensor]:
    """The tensors that a model of `config` takes, at all places or `only` at some, under their full names.

    Raises InputError naming the tensor and the file `name` where one is missing, superfluous, or of a wrong
    shape or dtype.
    """
    tensors = _renamed(tensors, config)
    wanted = {place.theirs: place for place in (places(config) if only is None else only)}
    if missing := [theirs for theirs in wanted if theirs not in tensors]:
        raise InputError(f"{name} lacks the tensor {missing[0]}, which its config.json asks for")
    embedding = next(places(config)).theirs
    written_twice = config.tie_embeddings and _HEAD in tensors and embedding in wanted
    if written_twice:  # as some tools do with the matrix that embedding and head share
        wanted[_HEAD] = wanted[embedding]
    if superfluous := [theirs for theirs in tensors if theirs not in wanted]:
        raise InputError(f"{name} holds the tensor {superfluous[0]}, for which its config.json has no place")
    for theirs, place in wanted.items():
        tensor = tensors[theirs]
        if tensor.shape != place.shape:
            shapes = f"{tensor.shape}, but its config.json asks for {place.shape}"
            raise InputError(f"{name}: tensor {theirs} has the shape {shapes}")
        if tensor.dtype not in _FLOATS:
            raise InputError(f"{name}: tensor {theirs} is {tensor.dtype}, but must be {' or '.join(_FLOATS)}")
        if not place.ours and tensor.floats().any():
            raise InputError(f"{name}: tensor {theirs} is not zero, though its config.json says qkv_bias false")
    if written_twice and not np.array_equal(tensors[_HEAD].floats(), tensors[embedding].floats()):
        raise InputError(f"{name}: tensor {_HEAD} is not {embedding}, though its config.json says they are tied")
    return tensors


def _renamed(tensors: Mapping[str, StoredTensor], config: GPTConfig) -> dict[str, StoredTensor]:
    """Tensors as today's transformers name them: with the prefix that OpenAI's file lacks, no buffers."""
    bare = config.architecture == "gpt2" and not any(name.startswith("transformer.") for name in tensors)
    kept = [name for name in tensors if not _BUFFERS.fullmatch(name)]
    return {f"transformer.{name}" if bare and name != _HEAD else name: tensors[name] for name in kept}


def _place(known: Mapping[str, tuple[int, ...]], theirs: str, ours: str) -> Place:
    shapes = [known[name] for name in ours.split()]
    n_rows = tuple(shape[0] for shape in shapes)
    whole = (sum(n_rows), *shapes[0][1:])
    transposed = _CONV1D.fullmatch(theirs) is not None
    return Place(theirs, tuple(ours.split()), n_rows, transposed, whole[::-1] if transposed else whole)
