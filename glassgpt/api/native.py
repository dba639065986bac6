"""A model of a directory in the native decoder: its weights laid out once, for as many decoders as are needed."""

from functools import cached_property

from glassgpt.api.cores import available_cores
from glassgpt.checkpoint.native_weights import NativeWeights, native_bytes, native_weights
from glassgpt.checkpoint.packed import StoredModel
from glassgpt.config import GPTConfig
from glassgpt.native.decoder import Decoder
from glassgpt.native.packing import Format
from glassgpt.settings import InputError
from glassgpt.training.machine_facts import memory_free


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


def _refuse(needed: int, what: str, instead: str) -> None:
    free = memory_free()
    if free is not None and needed > free:
        raise InputError(f"{what} take {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free: {instead}")
