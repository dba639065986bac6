"""PyTorch's tensors <-> safetensors files.

Written by ourselves in one pass, so that each tensor is made contiguous and brought to the CPU alone, and the
checksum is taken on the way (the library wants all of them at once and is slower). Read as `stored` reads.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from glassgpt.checkpoint.stored import StoredTensor, read_stored

_DTYPE_NAMES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8",
    torch.bool: "BOOL",
}  # fmt: skip
_LINE = 64
"""Bytes that a processor reads at a time."""
_READ_ONLY = {
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "C64": torch.complex64,
    "U64": torch.uint64, "U32": torch.uint32, "U16": torch.uint16,
}  # fmt: skip
"""What other tools may have written."""
_DTYPES = {name: dtype for dtype, name in _DTYPE_NAMES.items()} | _READ_ONLY


def safetensors_parts(tensors: Mapping[str, Tensor]) -> Iterator[bytes | memoryview]:
    """The parts of a safetensors file, in order. Each tensor is written in full, be it a view or shared."""
    # A tensor of a whole number of cache lines (64 bytes) before one of half a line, and so on: so each starts at a
    # multiple of the largest of these that divides it, and of the width of its numbers. Holes are not allowed.
    in_order = sorted(tensors, key=lambda name: (-_granule(tensors[name].nbytes), name))
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in in_order:
        tensor = tensors[name]
        start, end = end, end + tensor.numel() * tensor.element_size()
        dtype = _DTYPE_NAMES[tensor.dtype]
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % _LINE)
    yield len(text).to_bytes(8, "little")
    yield text
    for name in in_order:
        flat = tensors[name].detach().cpu().contiguous().reshape(-1)
        yield flat.view(torch.uint8).numpy().data


def _granule(n_bytes: int) -> int:
    """The largest power of two up to a cache line that divides `n_bytes`."""
    return _LINE if n_bytes % _LINE == 0 else n_bytes & -n_bytes


def as_torch(stored: StoredTensor) -> Tensor:
    """A stored tensor as PyTorch's, mapped into memory for as long as it is in use."""
    dtype = _DTYPES[stored.dtype]
    if 0 in stored.shape:
        return torch.empty(stored.shape, dtype=dtype)
    return torch.from_numpy(stored.raw()).view(dtype).reshape(stored.shape)


class TensorFile(Mapping[str, Tensor]):
    """The tensors of a safetensors file by name, each mapped into memory for as long as it is in use.

    Raises InputError for a file that is none or whose header lies.
    """

    def __init__(self, path: Path) -> None:
        self._stored = read_stored(path)

    def __getitem__(self, name: str) -> Tensor:
        return as_torch(self._stored[name])

    def __contains__(self, name: object) -> bool:
        return name in self._stored

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)
