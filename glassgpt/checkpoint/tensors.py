"""Tensors <-> safetensors files: a JSON header that says where each tensor lies, then their bytes.

Written by ourselves in one pass, so that each tensor is made contiguous and brought to the CPU alone, and the
checksum is taken on the way (the library wants all of them at once and is slower). Read by the library, which
trusts no header. Pickle is never opened.
"""

import json
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from glassgpt.checkpoint.pickled import refusal_of_pickle
from glassgpt.files import LARGE, inside, read_json
from glassgpt.settings import InputError, shown

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"

_DTYPE_NAMES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8",
    torch.bool: "BOOL",
}  # fmt: skip


def safetensors_parts(tensors: Mapping[str, Tensor]) -> Iterator[bytes | memoryview]:
    """The parts of a safetensors file, in order. Each tensor is written in full, be it a view or shared."""
    # The widest numbers first: so every tensor starts at a multiple of its own width.
    by_width = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in by_width:
        tensor = tensors[name]
        start, end = end, end + tensor.numel() * tensor.element_size()
        dtype = _DTYPE_NAMES[tensor.dtype]
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little")
    yield text
    for name in by_width:
        flat = tensors[name].detach().cpu().contiguous().reshape(-1)
        yield flat.view(torch.uint8).numpy().data


class TensorFile(Mapping[str, Tensor]):
    """The tensors of a safetensors file by name, each mapped into memory for as long as it is in use.

    Raises InputError for a file that is none or whose header lies.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._open() as file:
            self._names = dict.fromkeys(file.keys())
        self._refuse_twins()

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        with self._open() as file:  # anew each time: one open file would count as memory once it is all read
            return file.get_tensor(name)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def _refuse_twins(self) -> None:
        """Raise InputError for a name that stands twice in the header: another tool could read the other one."""
        with self._path.open("rb") as file:
            header = file.read(int.from_bytes(file.read(8), "little"))
        names = json.loads(header, object_pairs_hook=lambda pairs: [name for name, _ in pairs])
        if len(set(names)) < len(names):
            twin = next(name for name in names if names.count(name) > 1)
            raise InputError(f"{self._path} has two tensors of the name {shown(twin)}: fetch or save it again")

    @contextmanager
    def _open(self) -> Generator[safe_open, None, None]:
        try:
            with safe_open(self._path, framework="pt") as file:
                yield file
        except (SafetensorError, OSError) as error:
            reason = f"cannot read {self._path} as safetensors ({error})"
            raise InputError(f"{reason}: fetch or save it again") from None


class ShardedTensors(Mapping[str, Tensor]):
    """The tensors of several safetensors files, as `model.safetensors.index.json` lists them."""

    def __init__(self, index: Path) -> None:
        try:
            file_of = dict(read_json(index, LARGE)["weight_map"])
        except InputError:
            raise
        except (OSError, ValueError, KeyError, TypeError):
            raise InputError(f"{index} has no weight_map that says which file holds which tensor") from None
        self._file_of: dict[str, TensorFile] = {}
        opened: dict[str, TensorFile] = {}
        for name, file in file_of.items():
            if not (isinstance(file, str) and file.endswith(".safetensors") and Path(file).name == file):
                raise InputError(f"{index} names the file {shown(file)}: it must be a .safetensors file beside it")
            if file not in opened:
                opened[file] = TensorFile(inside(index.parent, file))
            if name not in opened[file]:
                raise InputError(f"{index} says that tensor {name} is in {file}, but it is not")
            self._file_of[name] = opened[file]

    def __getitem__(self, name: str) -> Tensor:
        return self._file_of[name][name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._file_of)

    def __len__(self) -> int:
        return len(self._file_of)


def open_weights(directory: Path) -> Mapping[str, Tensor]:
    """The weights of a Hugging Face directory, in one file or several. Raises InputError where none are."""
    if (directory / WEIGHTS).is_file():
        return TensorFile(inside(directory, WEIGHTS))
    if (directory / INDEX).is_file():
        return ShardedTensors(directory / INDEX)
    raise refusal_of_pickle(directory) or InputError(f"{directory} is no model: it has a config.json, but no {WEIGHTS}")
