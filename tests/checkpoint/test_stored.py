"""Safetensors files, read with numpy."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from glassgpt.checkpoint.stored import read_stored
from glassgpt.checkpoint.tensors import as_torch, safetensors_parts

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool)


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    drawn = torch.randn(3, 5, generator=torch.Generator().manual_seed(1)) * 100
    made = {str(dtype): drawn.to(dtype) for dtype in DTYPES if dtype != torch.uint8}
    return made | {"torch.uint8": drawn.abs().to(torch.uint8), "empty": torch.empty(0, 3), "number": torch.tensor(2.5)}


@pytest.mark.parametrize("by", ["us", "the library"])
def test_every_type_comes_back_bit_for_bit(by: str, tensors: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    if by == "us":
        path.write_bytes(b"".join(safetensors_parts(tensors)))
    else:
        save_file(tensors, path)
    stored = read_stored(path)
    assert stored.keys() == tensors.keys()
    for name, tensor in tensors.items():
        again = as_torch(stored[name])
        assert (again.dtype, again.shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(again, tensor)
        if tensor.dtype != torch.bfloat16:
            np.testing.assert_array_equal(stored[name].array(), tensor.numpy())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_floats_are_those_of_pytorch(dtype: torch.dtype, tensors: dict[str, torch.Tensor], tmp_path: Path) -> None:
    save_file(tensors, tmp_path / "a.safetensors")
    found = read_stored(tmp_path / "a.safetensors")[str(dtype)].floats()
    np.testing.assert_array_equal(found, tensors[str(dtype)].float().numpy())


def test_a_tensor_between_the_places_of_its_numbers_is_moved_to_them(tmp_path: Path) -> None:
    values = {"b": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}
    header = json.dumps(values | {"a": {"dtype": "F32", "shape": [2], "data_offsets": [1, 9]}}).encode()
    numbers = np.array([1.5, -2.5], np.float32)
    (tmp_path / "a").write_bytes(len(header).to_bytes(8, "little") + header + b"x" + numbers.tobytes())
    found = read_stored(tmp_path / "a")["a"].array()
    assert found.flags.aligned
    np.testing.assert_array_equal(found, numbers)


@pytest.mark.skipif(os.name == "nt", reason="Windows removes no open file")
def test_a_file_that_is_removed_can_still_be_read(tensors: dict[str, torch.Tensor], tmp_path: Path) -> None:
    save_file(tensors, tmp_path / "a")
    stored = read_stored(tmp_path / "a")
    (tmp_path / "a").unlink()
    assert torch.equal(as_torch(stored["torch.int64"]), tensors["torch.int64"])
