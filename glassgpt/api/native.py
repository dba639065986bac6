"""A model of a directory in the native decoder: its weights laid out once, for as many decoders as are needed."""

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from glassgpt.api.cores import available_cores
from glassgpt.checkpoint.native_weights import NativeWeights, native_bytes, native_weights
from glassgpt.checkpoint.packed import StoredModel
from glassgpt.config import GPTConfig
from glassgpt.native.decoder import Decoder, expected_shapes
from glassgpt.native.packing import Format, PackedMatrix, packed_shapes
from glassgpt.settings import InputError
from glassgpt.training.machine_facts import memory_free

READ = 2**28
"""Bytes that are read to measure: more than the caches hold."""


class NativeModel:
    """What the native decoder needs of a model; the weights are read when they are first needed."""

    def __init__(self, stored: StoredModel, kind: Format) -> None:
        self.config: GPTConfig = stored.config
        self.kind = kind
        self._stored = stored

    def decoder(self, n_slots: int = 1) -> Decoder:
        """A decoder for as many texts at once. Raises InputError where memory does not suffice."""
        weights = self._weights
        try:
            return Decoder(
                self.config, weights.matrices, weights.vectors, n_slots=n_slots, threads=available_cores()
            )
        except MemoryError as error:
            raise InputError(f"{error}: close other programs, or take a smaller model") from None

    def refuse_what_memory_cannot_hold(self, n_positions: int, n_texts: int = 1) -> None:
        """Raises InputError for texts of so many tokens whose keys and values do not fit beside the weights."""
        config = self.config
        each = 2 * 4 * config.n_layers * config.n_kv_heads * config.head_dim  # a key and a value in fp32
        n_positions = min(n_positions, config.context_length)
        _refuse(each * n_positions * n_texts, f"the cache of {n_texts} x {n_positions:,} tokens", "write less at once")

    @cached_property
    def _weights(self) -> NativeWeights:
        if self._stored.format is None:  # else they stay in the file
            taken = native_bytes(self.config, self.kind)
            smaller = "take a smaller model" if self.kind == "int4" else "give --dtype int8 or int4"
            _refuse(taken, f"the weights in {self.kind}", smaller)
        return native_weights(self._stored, self.kind, available_cores())


def read_speed(threads: int) -> float:
    """Bytes a second at which the native decoder reads weights from memory."""
    config = GPTConfig(
        vocab_size=READ // 256, context_length=16, embedding_dim=64, n_heads=1, n_layers=1, tie_embeddings=True
    )
    matrices: dict[str, PackedMatrix] = {}
    vectors: dict[str, NDArray[np.float32]] = {}
    for name, shape in expected_shapes(config):
        if len(shape) == 2 and name != "position_embedding.weight":
            values, _ = packed_shapes("fp32", *shape)
            matrices[name] = PackedMatrix("fp32", *shape, np.ones(values, np.float32))
        else:
            vectors[name] = np.ones(shape, np.float32)
    decoder = Decoder(config, matrices, vectors, threads=threads)
    return decoder.bytes_per_token / decoder.read_seconds(times=10)


def _refuse(needed: int, what: str, instead: str) -> None:
    free = memory_free()
    if free is not None and needed > free:
        raise InputError(f"{what} take {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free: {instead}")
