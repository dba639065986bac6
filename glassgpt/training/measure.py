"""How fast this machine multiplies, reads and saves: each measured in some tenths of a second."""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F

from glassgpt.files.atomic import sync_directory, write_through
from glassgpt.ops.linear import OneDnnLinear

SIDE = 1024
"""Rows and columns of the matrices that are multiplied."""
READ = 2**28
"""Bytes that are read: more than the caches hold."""
SAVED = 100_000_000
"""Bytes of the checkpoint that is written, in parts of a hundredth."""


@dataclass(frozen=True)
class DiskSpeed:
    """How saving works in a folder."""

    bytes_per_s: float
    """Of writing with SHA-256 and fsync, as checkpoints are."""
    links: bool
    """Whether `best` and `latest` can be links; else they are small text files."""
    directory_sync: bool
    """Whether a rename can be forced to the disk."""


def gemm(dtype: torch.dtype, threads: int, device: str = "cpu", onednn: bool = False, seconds: float = 0.3) -> float:
    """FLOP/s of a linear layer, in oneDNN if so asked: the best of what fits in `seconds`."""
    x, weight = (torch.ones(SIDE, SIDE, dtype=dtype, device=device) for _ in range(2))

    def product() -> None:
        F.linear(x, weight)[0, 0].item()  # which waits for a GPU

    with _threads(threads), torch.no_grad(), OneDnnLinear() if onednn else contextlib.nullcontext():
        return 2 * SIDE**3 / _shortest(product, seconds)


def bandwidth(threads: int, seconds: float = 0.2) -> float:
    """Bytes a second that so many threads read from memory."""
    values = torch.ones(READ // 4)
    with _threads(threads):
        return READ / _shortest(lambda: values.sum().item(), seconds)


def disk_speed(folder: Path, most_seconds: float = 1.5) -> DiskSpeed:
    """Write a file of `SAVED` bytes beside `folder`, or what can be written in the time. Raises OSError.

    The file is gone afterwards, and so is every folder that had to be made for it.
    """
    place = folder.expanduser().absolute()
    while not place.exists():
        place = place.parent
    aside = Path(tempfile.mkdtemp(prefix=".doctor-", dir=place))
    try:
        began = time.perf_counter()
        part = os.urandom(SAVED // 100)

        def parts() -> Iterator[bytes]:
            for _ in range(100):
                yield part
                if time.perf_counter() - began > most_seconds:
                    return

        written = write_through(aside / "checkpoint", parts())
        seconds = time.perf_counter() - began
        return DiskSpeed(written.n_bytes / seconds, _works(_link, aside), _works(sync_directory, aside))
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _link(folder: Path) -> None:
    (folder / "link").symlink_to("checkpoint")


def _works(action: Callable[[Path], None], folder: Path) -> bool:
    try:
        action(folder)
    except OSError:
        return False
    return os.name != "nt" or action is not sync_directory  # where it does nothing


def _shortest(action: Callable[[], object], seconds: float) -> float:
    """The shortest time of the action, tried until `seconds` have passed, three times at least."""
    began = time.perf_counter()
    times: list[float] = []
    while len(times) < 3 or time.perf_counter() - began < seconds:
        before = time.perf_counter()
        action()
        times.append(time.perf_counter() - before)
    return min(times)


@contextlib.contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
