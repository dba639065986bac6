"""A GPT for generating text in one call a step (`native/decode.cpp`): both architectures, weights in four formats.

The caches of keys and values belong to the decoder: `n_slots` of them, each with room for one text of context_length
tokens. The text that a slot holds does not depend on what else is computed in the same call, nor on how it was cut
into calls, bit for bit.
"""

import ctypes
import time
from collections.abc import Mapping, Sequence
from ctypes import c_int64, c_void_p
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from glassgpt.config import GPTConfig
from glassgpt.native.compiled import library
from glassgpt.native.packing import FORMATS, PANEL, PackedMatrix
from glassgpt.native.spans import Span
from glassgpt.native.trainer import BLOCK_TENSORS, MODEL_TENSORS, Shape

_PARAMETERS = {"token_embedding": "token_embedding.weight", "output_head": "output_head.weight"}
"""Tensors of `MODEL_TENSORS` whose parameter is called otherwise."""
_ENDINGS = (".bias", ".scale", ".shift")
_REFUSALS = (
    "", "a slot is not there", "a slot is given twice", "a span begins where its slot holds nothing yet",
    "a span ends after context_length", "a span has no tokens", "there are more rows than max_rows",
    "scores of more tokens are wanted than a span has", "a token is not in the vocabulary",
)  # fmt: skip


class _Packed(ctypes.Structure):
    _fields_ = [("values", c_void_p), ("scales", c_void_p), ("format", c_int64)]


class _Room(ctypes.Structure):
    _fields_ = [(name, c_int64) for name in ("n_slots", "max_rows", "half_cache")]


def available() -> bool:
    """Whether the decoder was built and can be opened."""
    return library() is not None


class Decoder:
    """A model's weights, caches and threads. One caller at a time.

    `n_passes` counts how often all weights were read.
    """

    def __init__(
        self,
        config: GPTConfig,
        matrices: Mapping[str, PackedMatrix],
        vectors: Mapping[str, NDArray[np.float32]],
        *,
        threads: int,
        n_slots: int = 1,
        cache: Literal["fp32", "bf16"] = "fp32",
        max_rows: int = 512,
    ) -> None:
        """`matrices` and `vectors` by the names of the model's parameters: what `GPTModel.named_parameters` gives.

        position_embedding.weight, (context_length, C), is one of the vectors. Their arrays are used where they are.
        Raises MemoryError, RuntimeError where `available()` is false, and ValueError for a tensor that is missing or
        has another shape than the config says.
        """
        opened = library()
        if opened is None:
            raise RuntimeError("the native code was not built")
        self.config = config
        self.n_slots = n_slots
        self.n_passes = 0
        self.max_rows = min(max_rows, max(512, config.context_length))
        self._library = opened
        self._matrices, self._vectors = dict(matrices), dict(vectors)
        self._width = -(-config.vocab_size // PANEL) * PANEL
        self._tables = rotary_tables(config)
        shape = Shape.of(config, threads, *self._tables)
        packed, addresses = _by_slot(config, matrices, vectors)
        room = _Room(n_slots, self.max_rows, int(cache == "bf16"))
        self._handle = opened.glassgpt_decoder(ctypes.byref(shape), ctypes.byref(room), packed, addresses)
        if not self._handle:
            raise MemoryError(f"there is not enough memory for {n_slots} texts of {config.context_length} tokens")
        # A call with one token of one text must not wait for Python: its arguments are made once.
        self._one = (c_int64 * 5)()  # slot, start, count, n_logits, id
        at = ctypes.addressof(self._one)
        self._one_arguments = [c_void_p(at + 8 * number) for number in range(5)]
        self._one_logits = np.empty((1, self._width), np.float32)
        self._one_view = self._one_logits[0, : config.vocab_size]
        self._one_address = c_void_p(self._one_logits.ctypes.data)

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self._library.glassgpt_decoder_free(self._handle)

    @property
    def bytes_per_token(self) -> int:
        """Weights that computing one token reads."""
        embedding = 0 if self.config.tie_embeddings else self._matrices["token_embedding.weight"].n_bytes
        return sum(matrix.n_bytes for matrix in self._matrices.values()) - embedding

    def forward(self, spans: Sequence[Span]) -> NDArray[np.float32]:
        """Compute the spans and keep their keys and values; the scores that they want, (sum of n_logits, V).

        Raises ValueError for what cannot be computed; nothing has happened then.
        """
        if not spans:
            raise ValueError("there are no spans to compute")
        logits = np.empty((sum(max(0, span.n_logits) for span in spans), self._width), np.float32)
        slots, starts, counts, n_logits = (
            np.array(column, np.int64)
            for column in zip(*((span.slot, span.start, len(span.ids), span.n_logits) for span in spans))
        )
        ids = np.concatenate([np.asarray(span.ids, np.int64) for span in spans])
        refusal = self._library.glassgpt_decoder_forward(
            self._handle, len(spans), *(array.ctypes.data for array in (slots, starts, counts, n_logits, ids, logits))
        )
        if refusal:
            raise ValueError(_REFUSALS[refusal])
        self.n_passes += 1
        return logits[:, : self.config.vocab_size]

    def next(self, slot: int, start: int, token: int) -> NDArray[np.float32]:
        """The scores (V,) after one more token at position `start`: `forward` for a single span, with less around it.

        They are overwritten by the next call. Raises ValueError as `forward` does.
        """
        one = self._one
        one[0], one[1], one[2], one[3], one[4] = slot, start, 1, 1, token
        refusal = self._library.glassgpt_decoder_forward(self._handle, 1, *self._one_arguments, self._one_address)
        if refusal:
            raise ValueError(_REFUSALS[refusal])
        self.n_passes += 1
        return self._one_view

    def copy(self, source: int, target: int, length: int) -> None:
        """Let slot `target` begin with the first `length` tokens of slot `source`."""
        refusal = self._library.glassgpt_decoder_copy(self._handle, source, target, length)
        if refusal:
            raise ValueError(_REFUSALS[refusal])

    def read_seconds(self, times: int = 5) -> float:
        """How long it takes to read all weights that a token needs, with all threads, and to do nothing else with them.

        The least that a token can take here: the shortest of so many times.
        """
        seconds = []
        for _ in range(times):
            began = time.perf_counter()
            self._library.glassgpt_decoder_read(self._handle)
            seconds.append(time.perf_counter() - began)
        return min(seconds)


def _by_slot(
    config: GPTConfig, matrices: Mapping[str, PackedMatrix], vectors: Mapping[str, NDArray[np.float32]]
) -> tuple[ctypes.Array[_Packed], ctypes.Array[c_void_p]]:
    """The tensors in the order of `MODEL_TENSORS` and `BLOCK_TENSORS`, absent ones null. Raises ValueError."""
    names = [_PARAMETERS.get(name, name) for name in MODEL_TENSORS]
    names[names.index("position_embedding")] = "position_embedding.weight"
    for layer in range(config.n_layers):
        names += [f"blocks.{layer}.{name}" + ("" if name.endswith(_ENDINGS) else ".weight") for name in BLOCK_TENSORS]
    expected = dict(expected_shapes(config))
    packed, addresses = (_Packed * len(names))(), (c_void_p * len(names))()
    for slot, name in enumerate(names):
        if name not in expected:
            continue
        if name in matrices:
            matrix = matrices[name]
            given: tuple[int, ...] = (matrix.n_rows, matrix.n_columns)
            scales = None if matrix.scales is None else matrix.scales.ctypes.data
            packed[slot] = _Packed(matrix.values.ctypes.data, scales, FORMATS.index(matrix.format))
        elif name in vectors:
            given = vectors[name].shape
            if vectors[name].dtype != np.float32 or not vectors[name].flags.c_contiguous:
                raise ValueError(f"{name} must be float32 in one piece")
            addresses[slot] = vectors[name].ctypes.data
        else:
            raise ValueError(f"{name} is missing")
        if given != expected[name]:
            raise ValueError(f"{name} has the shape {given}, but the config asks for {expected[name]}")
    return packed, addresses


def expected_shapes(config: GPTConfig) -> list[tuple[str, tuple[int, ...]]]:
    """Name and shape of each parameter, the tied output head left out."""
    c, f, d = config.embedding_dim, config.feed_forward_dim, config.head_dim
    q, kv = config.n_heads * d, config.n_kv_heads * d
    modern = config.architecture == "modern"
    shapes: list[tuple[str, tuple[int, ...]]] = [("token_embedding.weight", (config.vocab_size, c))]
    if not modern:
        shapes.append(("position_embedding.weight", (config.context_length, c)))
    norm = ("scale",) if modern else ("scale", "shift")
    for layer in range(config.n_layers):
        block: list[tuple[str, tuple[int, ...]]] = []
        for name, size in (("query", q), ("key", kv), ("value", kv)):
            block.append((f"attention.{name}.weight", (size, c)))
            if config.qkv_bias:
                block.append((f"attention.{name}.bias", (size,)))
        block.append(("attention.output_projection.weight", (c, q)))
        if not modern:
            block.append(("attention.output_projection.bias", (c,)))
        if config.qk_norm:
            block += [("attention.query_norm.scale", (d,)), ("attention.key_norm.scale", (d,))]
        if modern:
            block.append(("feed_forward.gate.weight", (f, c)))
        block += [("feed_forward.up.weight", (f, c)), ("feed_forward.down.weight", (c, f))]
        if not modern:
            block += [("feed_forward.up.bias", (f,)), ("feed_forward.down.bias", (c,))]
        block += [(f"{place}_norm.{name}", (c,)) for place in ("attention", "feed_forward") for name in norm]
        shapes += [(f"blocks.{layer}.{name}", shape) for name, shape in block]
    shapes += [(f"final_norm.{name}", (c,)) for name in norm]
    if not config.tie_embeddings:
        shapes.append(("output_head.weight", (config.vocab_size, c)))
    return shapes


def rotary_tables(config: GPTConfig) -> tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]:
    """cos and sin (context_length, D / 2) of the angles of `RotaryPositions`."""
    if config.architecture != "modern":
        return None, None
    exponents = np.arange(0, config.head_dim, 2, dtype=np.float32) / np.float32(config.head_dim)
    frequencies = 1.0 / np.float32(config.rope_theta) ** exponents
    angles = np.outer(np.arange(config.context_length, dtype=np.float32), frequencies.astype(np.float32))
    return np.cos(angles), np.sin(angles)
