"""A training step of a small model in one call (`native/train.cpp`), for processors.

Tensors are given as addresses, in the order of `MODEL_TENSORS` and then, for each block, `BLOCK_TENSORS`; an absent
one is 0. The caller keeps what it points to alive.
"""

import ctypes
from collections.abc import Mapping, Sequence
from ctypes import c_double, c_float, c_int64, c_uint32, c_void_p

import numpy as np
from numpy.typing import NDArray

from glassgpt.config import GPTConfig
from glassgpt.native.compiled import has_bf16, library

MODEL_TENSORS = ("token_embedding", "position_embedding", "final_norm.scale", "final_norm.shift", "output_head")
BLOCK_TENSORS = (
    "attention.query", "attention.key", "attention.value", "attention.output_projection",
    "attention.query.bias", "attention.key.bias", "attention.value.bias", "attention.output_projection.bias",
    "attention.query_norm.scale", "attention.key_norm.scale",
    "attention_norm.scale", "attention_norm.shift", "feed_forward_norm.scale", "feed_forward_norm.shift",
    "feed_forward.gate", "feed_forward.up", "feed_forward.down", "feed_forward.up.bias", "feed_forward.down.bias",
)  # fmt: skip


_SIZES = (
    "vocab_size", "context_length", "embedding_dim", "n_heads", "n_kv_heads", "head_dim", "n_layers",
    "feed_forward_dim",
)  # fmt: skip


class Shape(ctypes.Structure):
    """What the native code knows of a model."""

    _fields_ = [
        *((name, c_int64) for name in (*_SIZES, "gated", "tied", "threads")),
        *((name, c_float) for name in ("norm_eps", "qk_norm_eps")),
        *((name, c_void_p) for name in ("cos", "sin")),
    ]  # fmt: skip

    @classmethod
    def of(
        cls, config: GPTConfig, threads: int, cos: NDArray[np.float32] | None, sin: NDArray[np.float32] | None
    ) -> "Shape":
        """cos and sin are (context_length, head_dim / 2) in one piece, None without rotary positions."""
        return cls(
            **{name: getattr(config, name) for name in _SIZES},
            gated=config.architecture == "modern",
            tied=config.tie_embeddings,
            threads=threads,
            norm_eps=config.norm_eps,
            qk_norm_eps=config.norm_eps,
            cos=None if cos is None else cos.ctypes.data,
            sin=None if sin is None else sin.ctypes.data,
        )


class _Batch(ctypes.Structure):
    _fields_ = [
        *((name, c_void_p) for name in ("ids", "targets")),
        *((name, c_int64) for name in ("sequences", "length")),
        *((name, c_float) for name in ("loss_scale", "dropout_rate")),
        ("seed", c_uint32),
        ("backward", c_int64),
        ("nats", c_void_p),
    ]


def suits(config: GPTConfig) -> bool:
    """Whether the native step can train this shape: rows of its matrices must fall on even elements."""
    widths = (config.embedding_dim, config.head_dim, config.feed_forward_dim)
    return all(width % 2 == 0 for width in widths) and config.dropout != "portable"


class Trainer:
    """The space that training one model takes: packed weights, activations, gradients of all threads but the first."""

    def __init__(
        self, config: GPTConfig, sizes: Mapping[int, int], cos: np.ndarray | None, sin: np.ndarray | None,
        *, threads: int, bf16: bool,
    ) -> None:  # fmt: skip
        """`sizes[slot]` counts the elements of a tensor; cos and sin are (context_length, head_dim / 2) float32.

        Raises MemoryError, and RuntimeError where `library()` is None or bf16 is asked for without `has_bf16()`.
        """
        opened = library()
        if opened is None:
            raise RuntimeError("the native code was not built")
        if bf16 and not has_bf16():
            raise RuntimeError("this processor has no bf16 products")
        self._library = opened
        self._tables = [None if table is None else np.ascontiguousarray(table, np.float32) for table in (cos, sin)]
        shape = Shape.of(config, threads, *self._tables)
        self.threads = threads
        self.n_slots = len(MODEL_TENSORS) + config.n_layers * len(BLOCK_TENSORS)
        counts = np.array([sizes.get(slot, 0) for slot in range(self.n_slots)], np.int64)
        self._handle = opened.glassgpt_trainer(ctypes.byref(shape), int(bf16), counts.ctypes.data)
        if not self._handle:
            raise MemoryError("there is not enough memory for the native training step")

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self._library.glassgpt_trainer_free(self._handle)

    def step(
        self, weights: Sequence[int], gradients: Sequence[int] | None, ids: int, targets: int, sequences: int,
        length: int, *, loss_scale: float = 1.0, dropout_rate: float = 0.0, seed: int = 0,
    ) -> tuple[float, float]:  # fmt: skip
        """Sum of -log p over the targets, and the squared norm of all gradients, which are overwritten.

        weights and gradients: addresses by slot; ids and targets: addresses of (sequences, length) int64; a target
        below 0 does not count. The gradients are those of loss_scale times the sum; without them it is only summed.
        """
        nats = np.zeros(self.threads)
        batch = _Batch(
            ids=ids, targets=targets, sequences=sequences, length=length, loss_scale=loss_scale,
            dropout_rate=dropout_rate, seed=seed, backward=gradients is not None, nats=nats.ctypes.data,
        )  # fmt: skip
        squared = c_double()
        pointers = (c_void_p * self.n_slots)(*weights)
        into = (c_void_p * self.n_slots)(*(gradients or [0] * self.n_slots))
        self._library.glassgpt_trainer_step(self._handle, pointers, ctypes.byref(batch), into, ctypes.byref(squared))
        return float(nats.sum()), squared.value
