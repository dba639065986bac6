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
from pathlib import Path

import numpy as np
import numpy.typing as npt

from glassgpt.settings import InputError

MAGIC, VERSION = b"GLASSGPT", 1
FIELDS = struct.Struct("<8sIIQQ")
HEADER_SIZE = FIELDS.size + 32

Ids = npt.NDArray[np.integer]
"""A one-dimensional array of token ids, uint16 or uint32."""


def id_dtype(vocab_size: int) -> np.dtype:
    """The smallest type that holds every id of a vocabulary."""
    return np.dtype("<u2" if vocab_size <= 2**16 else "<u4")


def write_shard(path: Path, parts: Iterable[npt.NDArray[np.integer]], vocab_size: int) -> int:
    """Write the ids of all `parts`, one after the other, and return how many there are.

    Raises InputError for an id that is not in the vocabulary.
    """
    dtype, digest, n_ids = id_dtype(vocab_size), hashlib.sha256(), 0
    with path.open("wb") as file:
        file.write(bytes(HEADER_SIZE))
        for part in parts:
            if part.size and not 0 <= int(part.min()) <= int(part.max()) < vocab_size:
                raise InputError(f"token id {int(part.max())} is outside the vocabulary of {vocab_size}: prepare anew")
            payload = part.astype(dtype, copy=False).tobytes()
            digest.update(payload)
            file.write(payload)
            n_ids += part.size
        fields = FIELDS.pack(MAGIC, VERSION, dtype.itemsize, vocab_size, n_ids)
        digest.update(fields)
        file.seek(0)
        file.write(fields + digest.digest())
        file.flush()
        os.fsync(file.fileno())
    return n_ids


def read_shard(path: Path) -> tuple[Ids, int]:
    """The ids, memory-mapped, and their vocab_size. Raises InputError for a file that is not what was written."""
    again = "delete its folder and prepare the text again"
    try:
        with path.open("rb") as file:
            head = file.read(HEADER_SIZE)
    except OSError as error:
        raise InputError(f"cannot read the shard {path}: {error.strerror}; {again}") from None
    if len(head) < HEADER_SIZE or head[:8] != MAGIC:
        raise InputError(f"{path} is no shard of GlassGPT (its header is missing): {again}")
    _, version, width, vocab_size, n_ids = FIELDS.unpack(head[: FIELDS.size])
    if version != VERSION or width not in (2, 4):
        raise InputError(f"{path} has version {version}, this GlassGPT reads {VERSION}: {again}")
    expected = HEADER_SIZE + width * n_ids
    if path.stat().st_size != expected:
        raise InputError(f"{path} has {path.stat().st_size} bytes, its header says {expected}: {again}")
    digest, highest = hashlib.sha256(), -1
    with path.open("rb") as file:  # read, not mapped: what is mapped and touched counts as memory
        file.seek(HEADER_SIZE)
        while block := file.read(1 << 20):
            digest.update(block)
            highest = max(highest, int(np.frombuffer(block, f"<u{width}").max()))
    digest.update(head[: FIELDS.size])
    if digest.digest() != head[FIELDS.size :]:
        raise InputError(f"{path} was altered since it was written (its SHA-256 differs): {again}")
    if highest >= vocab_size:
        raise InputError(f"{path} holds id {highest}, its vocabulary ends at {vocab_size - 1}: {again}")
    ids = np.memmap(path, np.dtype(f"<u{width}"), "r", HEADER_SIZE, (n_ids,)) if n_ids else np.empty(0, np.uint16)
    return ids, vocab_size
