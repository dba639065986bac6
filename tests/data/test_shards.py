from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glassgpt.data.shards import HEADER_SIZE, id_dtype, read_shard, write_shard
from glassgpt.settings import InputError


def test_ids_come_back_and_small_vocabularies_take_two_bytes(tmp_path: Path) -> None:
    for vocab_size, width in ((257, 2), (65_536, 2), (65_537, 4)):
        ids = np.array([0, 5, vocab_size - 1])
        assert write_shard(tmp_path / "a.shard", [ids[:1], ids[1:]], vocab_size).n_ids == 3
        read, read_vocab = read_shard(tmp_path / "a.shard")
        assert read.tolist() == ids.tolist()
        assert (read.dtype.itemsize, read_vocab) == (width, vocab_size)
        assert isinstance(read, np.memmap)
        assert id_dtype(vocab_size).itemsize == width


def test_an_id_outside_the_vocabulary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="outside the vocabulary of 10"):
        write_shard(tmp_path / "a.shard", [np.array([3, 10])], 10)


@settings(max_examples=60, deadline=None)
@given(position=st.integers(0, 10**6), bit=st.integers(0, 7), cut=st.one_of(st.none(), st.integers(0, 10**6)))
def test_every_flipped_bit_and_every_truncation_is_refused(
    tmp_path_factory: pytest.TempPathFactory, position: int, bit: int, cut: int | None
) -> None:
    path = tmp_path_factory.mktemp("shard") / "a.shard"
    write_shard(path, [np.arange(500)], 512)
    content = bytearray(path.read_bytes())
    if cut is None:
        content[position % len(content)] ^= 1 << bit
    else:
        del content[cut % len(content) :]
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.shard"):
        read_shard(path)


def test_a_file_that_is_no_shard_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.shard"
    path.write_bytes(b"some text" * 20)
    with pytest.raises(InputError, match="no shard"):
        read_shard(path)
    with pytest.raises(InputError, match="cannot read"):
        read_shard(tmp_path / "missing.shard")
    assert HEADER_SIZE == 64
