"""Tensors as safetensors files hold them: a JSON header that says where each tensor lies, then their bytes.

Read with numpy alone, so that a model can write before PyTorch is there. No header is trusted: what it says is
compared with the file before anything is mapped. Pickle is never opened.
"""

import json
import math
import mmap
import os
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from glassgpt.checkpoint.pickled import refusal_of_pickle
from glassgpt.files.reading import LARGE, inside, read_json
from glassgpt.settings import InputError, shown

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"

_WIDTHS = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "C64": 8, "BOOL": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1,
}  # fmt: skip
"""Bytes of a number of each type."""
_NUMPY = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16, "BOOL": np.bool_,
    "I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8,
    "U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8,
}  # fmt: skip
"""numpy's type; it has no bfloat16, whose bits are taken."""
_LONGEST_HEADER = 100_000_000
"""Bytes, as in the library of the format."""
_MOST_AXES = 2000
"""Of a shape; to multiply millions of them would take minutes."""


@dataclass(frozen=True)
class StoredTensor:
    """What a header says of a tensor, and the way to its numbers."""

    dtype: str
    """In the format's words: F32, BF16, ..."""
    shape: tuple[int, ...]
    raw: Callable[[], NDArray[np.uint8]]
    """Its bytes, mapped into memory for as long as the array is in use."""

    def array(self) -> NDArray[Any]:
        """Its numbers: the bits of bfloat16 as uint16, of what numpy has no type for as bytes."""
        if self.dtype not in _NUMPY:
            return self.raw()
        return self.raw().view(_NUMPY[self.dtype]).reshape(self.shape)

    def floats(self) -> NDArray[np.float32]:
        """Its numbers as float32; of float16, bfloat16 or float32."""
        array = self.array()
        if self.dtype == "BF16":
            return (array.astype(np.uint32) << 16).view(np.float32)
        return array.astype(np.float32, copy=False)


def read_stored(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a safetensors file by name. The file stays open for as long as one of them is in use.

    Raises InputError for a file that is none or whose header lies.
    """
    try:
        file = _OpenFile(path)
        entries = _entries(file)
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        why = (error.strerror if isinstance(error, OSError) else None) or error
        raise InputError(f"cannot read {path} as safetensors ({why}): fetch or save it again") from None
    return {name: _tensor(file, entry) for name, entry in entries.items()}


def stored_weights(directory: Path) -> dict[str, StoredTensor]:
    """The weights of a Hugging Face directory, in one file or several. Raises InputError where none are."""
    if (directory / WEIGHTS).is_file():
        return read_stored(inside(directory, WEIGHTS))
    if (directory / INDEX).is_file():
        return _sharded(directory / INDEX)
    raise refusal_of_pickle(directory) or InputError(f"{directory} is no model: it has a config.json, but no {WEIGHTS}")


def _sharded(index: Path) -> dict[str, StoredTensor]:
    """The tensors of several safetensors files, as `model.safetensors.index.json` lists them."""
    try:
        file_of = dict(read_json(index, LARGE)["weight_map"])
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{index} has no weight_map that says which file holds which tensor") from None
    found: dict[str, StoredTensor] = {}
    opened: dict[str, dict[str, StoredTensor]] = {}
    for name, file in file_of.items():
        if not (isinstance(file, str) and file.endswith(".safetensors") and Path(file).name == file):
            raise InputError(f"{index} names the file {shown(file)}: it must be a .safetensors file beside it")
        if file not in opened:
            opened[file] = read_stored(inside(index.parent, file))
        if name not in opened[file]:
            raise InputError(f"{index} says that tensor {name} is in {file}, but it is not")
        found[name] = opened[file][name]
    return found


class _OpenFile:
    """A file that can be mapped in parts, even after its directory was removed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        weakref.finalize(self, os.close, self._descriptor)
        self.n_bytes = os.fstat(self._descriptor).st_size

    def read(self, n_bytes: int) -> bytes:
        """The first `n_bytes`."""
        with open(self._descriptor, "rb", closefd=False) as file:
            file.seek(0)
            return file.read(n_bytes)

    def map(self, start: int, n_bytes: int) -> NDArray[np.uint8]:
        """A part of it, mapped by itself: what one map of the whole has read would count as memory to the end."""
        if n_bytes == 0:
            return np.empty(0, np.uint8)
        before = start % mmap.ALLOCATIONGRANULARITY
        # A private copy: nobody writes to it, but PyTorch complains of memory that cannot be written.
        mapped = mmap.mmap(self._descriptor, before + n_bytes, access=mmap.ACCESS_COPY, offset=start - before)
        return np.frombuffer(mapped, np.uint8, n_bytes, before)


def _tensor(file: _OpenFile, entry: "_Entry") -> StoredTensor:
    def raw() -> NDArray[np.uint8]:
        mapped = file.map(entry.start, entry.n_bytes)
        return mapped if entry.start % _WIDTHS[entry.dtype] == 0 else mapped.copy()  # numbers on their own places

    return StoredTensor(entry.dtype, entry.shape, raw)


@dataclass(frozen=True)
class _Entry:
    dtype: str
    shape: tuple[int, ...]
    start: int
    """In the file."""
    n_bytes: int


def _entries(file: _OpenFile) -> dict[str, _Entry]:
    """The header, compared with the file. Raises ValueError where it lies."""
    length = int.from_bytes(file.read(8), "little")
    if file.n_bytes < 8 or length > min(file.n_bytes - 8, _LONGEST_HEADER):
        raise ValueError("its header is longer than the file")
    try:
        pairs = json.loads(file.read(8 + length)[8:].decode("utf-8"), object_pairs_hook=_Pairs)
    except RecursionError:
        raise ValueError("its header is nested too deep") from None
    except ValueError:
        raise ValueError("its header is no JSON") from None
    if not isinstance(pairs, _Pairs):
        raise ValueError("its header is no object")
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        twin = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{file.path} has two tensors of the name {shown(twin)}: fetch or save it again")
    entries = {name: _entry(name, values, 8 + length) for name, values in pairs if name != "__metadata__"}
    end = 8 + length
    for entry in sorted(entries.values(), key=lambda entry: (entry.start, entry.n_bytes)):
        if entry.start != end:
            raise ValueError("its tensors overlap or leave holes")
        end += entry.n_bytes
    if end != file.n_bytes:
        raise ValueError(f"its tensors end at byte {end:,}, the file at {file.n_bytes:,}")
    return entries


class _Pairs(list[tuple[str, Any]]):
    """An object of JSON with all its names, those that stand twice too."""


def _entry(name: str, values: Any, data: int) -> _Entry:
    """What a header says of one tensor; the tensors' bytes begin at `data`."""
    what = f"tensor {shown(name)}"
    if not isinstance(values, _Pairs):
        raise ValueError(f"{what} is no object")
    said = dict(values)
    dtype, shape, offsets = said.get("dtype"), said.get("shape"), said.get("data_offsets")
    if not (isinstance(dtype, str) and dtype in _WIDTHS):
        raise ValueError(f"{what} is of the unknown type {shown(dtype)}")
    if not (_are_counts(shape) and len(shape) <= _MOST_AXES):
        raise ValueError(f"{what} has the shape {shown(shape)}")
    if not (_are_counts(offsets) and len(offsets) == 2):
        raise ValueError(f"{what} has the offsets {shown(offsets)}")
    start, end = offsets
    if end - start != math.prod(shape) * _WIDTHS[dtype]:
        raise ValueError(f"{what} has other bytes than its shape {shown(shape)} needs")
    return _Entry(dtype, tuple(shape), data + start, end - start)


def _are_counts(values: Any) -> TypeGuard[list[int]]:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 2**63 for value in values)
