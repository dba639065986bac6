"""A shard: one file of token ids that is memory-mapped, not loaded.

    offset  size  what (little-endian)
         0     8  magic, b"GLASSGPT"
         8     4  version of this format, uint32
        12     4  bytes of one id, uint32: 2 where the vocabulary fits 16 bits, else 4
        16     8  vocab_size, uint64
        24     8  number of ids, uint64
        32    32  SHA-256 of the ids and then the 32 bytes above
        64        the ids

`read_shard` checks all of it, so a truncated or altered file is refused before its first id is used.
"""

import hashlib
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from glassgpt.settings import InputError

MAGIC, VERSION = b"GLASSGPT", 1
FIELDS = struct.Struct("<8sIIQQ")
HEADER_SIZE = FIELDS.size + 32
BLOCK = 1 << 20
"""Bytes that are summed at once."""

Ids = npt.NDArray[np.integer]
"""A one-dimensional array of token ids, uint16 or uint32."""


def id_dtype(vocab_size: int) -> np.dtype:
    """The smallest type that holds every id of a vocabulary."""
    return np.dtype("<u2" if vocab_size <= 2**16 else "<u4")


@dataclass(frozen=True)
class Written:
    """What a shard holds, and the sum of it."""

    n_ids: int
    sha256: str
    """Of a shard that is complete, as in its header; of one that is not, of its ids alone."""


class ShardWriter:
    """A shard on its way to the disk; until it is complete its header is empty, so that nobody takes it for one.

    With `begun`, which `sync` gave to an earlier writer, it goes on from there. Raises ValueError where those ids are
    no longer there as they were.
    """

    def __init__(self, path: Path, vocab_size: int, begun: Written | None = None) -> None:
        self._vocab_size, self._dtype = vocab_size, id_dtype(vocab_size)
        self._digest, self._n_ids = hashlib.sha256(), 0
        self._file = path.open("r+b" if begun else "wb")
        if begun is None:
            self._file.write(bytes(HEADER_SIZE))
            return
        try:
            self._go_on(begun)
        except ValueError:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def write(self, ids: npt.NDArray[np.integer]) -> None:
        """Add these ids. Raises InputError for one that is not in the vocabulary."""
        if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < self._vocab_size:
            wrong = int(ids.min()) if ids.min() < 0 else int(ids.max())
            raise InputError(f"token id {wrong} is outside the vocabulary of {self._vocab_size}: prepare anew")
        payload = ids.astype(self._dtype, copy=False).tobytes()
        self._digest.update(payload)
        self._file.write(payload)
        self._n_ids += ids.size

    def sync(self) -> Written:
        """Force all ids so far to the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return Written(self._n_ids, self._digest.hexdigest())

    def finish(self) -> Written:
        """Write the header and force everything to the disk."""
        fields = FIELDS.pack(MAGIC, VERSION, self._dtype.itemsize, self._vocab_size, self._n_ids)
        self._digest.update(fields)
        self._file.seek(0)
        self._file.write(fields + self._digest.digest())
        return self.sync()

    def _go_on(self, begun: Written) -> None:
        end = HEADER_SIZE + begun.n_ids * self._dtype.itemsize
        self._file.seek(HEADER_SIZE)
        while block := self._file.read(min(BLOCK, end - self._file.tell())):
            self._digest.update(block)
        if self._file.tell() != end or self._digest.hexdigest() != begun.sha256:
            raise ValueError("the ids that were written are altered")
        self._file.truncate()
        self._n_ids = begun.n_ids


def write_shard(path: Path, parts: Iterable[npt.NDArray[np.integer]], vocab_size: int) -> Written:
    """Write the ids of all `parts`, one after the other. Raises InputError for an id that is not in the vocabulary."""
    with ShardWriter(path, vocab_size) as shard:
        for part in parts:
            shard.write(part)
        return shard.finish()


def read_shard(path: Path, sha256: str | None = None) -> tuple[Ids, int]:
    """The ids, memory-mapped, and their vocab_size. Raises InputError for a file that is not what was written.

    With `sha256`, only the shard of that sum is taken: another one, whole as it may be, is refused.
    """
    again = "delete its folder and prepare the text again"
    try:
        with path.open("rb") as file:
            head = file.read(HEADER_SIZE)
    except OSError as error:
        raise InputError(f"cannot read the shard {path}: {error.strerror}; {again}") from None
    if len(head) < HEADER_SIZE or head[:8] != MAGIC:
        raise InputError(f"{path} is no shard of GlassGPT (its header is missing): {again}")
    _, version, width, vocab_size, n_ids = FIELDS.unpack(head[: FIELDS.size])
    if version != VERSION:
        raise InputError(f"{path} has version {version}, this GlassGPT reads {VERSION}: {again}")
    if width != id_dtype(vocab_size).itemsize:
        raise InputError(f"{path} has ids of {width} bytes, which do not suit a vocabulary of {vocab_size}: {again}")
    expected = HEADER_SIZE + width * n_ids
    if path.stat().st_size != expected:
        raise InputError(f"{path} has {path.stat().st_size} bytes, its header says {expected}: {again}")
    digest, highest = hashlib.sha256(), -1
    with path.open("rb") as file:  # read, not mapped: what is mapped and touched counts as memory
        file.seek(HEADER_SIZE)
        while block := file.read(BLOCK):
            digest.update(block)
            highest = max(highest, int(np.frombuffer(block, f"<u{width}").max()))
    digest.update(head[: FIELDS.size])
    if digest.digest() != head[FIELDS.size :]:
        raise InputError(f"{path} was altered since it was written (its SHA-256 differs): {again}")
    if sha256 not in (None, digest.hexdigest()):
        raise InputError(f"{path} is the shard of another text (its SHA-256 differs): {again}")
    if highest >= vocab_size:
        raise InputError(f"{path} holds id {highest}, its vocabulary ends at {vocab_size - 1}: {again}")
    ids = np.memmap(path, np.dtype(f"<u{width}"), "r", HEADER_SIZE, (n_ids,)) if n_ids else np.empty(0, np.uint16)
    return ids, vocab_size
