"""The manifest of a checkpoint: size and SHA-256 of every file in it, written last and checked before use.

It tells a damaged checkpoint from a sound one (a bad disk, a copy cut short, an edit); it is no signature.
Files that it does not name, such as a README added later, are not checked, and nothing here reads them.
"""

import hashlib
import json
import mmap
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from glassgpt.files.atomic import FileSum
from glassgpt.files.reading import inside, read_bytes
from glassgpt.settings import InputError

MANIFEST = "manifest.json"
CONFIG = "config.json"
"""What makes a directory a model's."""
TRAINER = "trainer/"
"""Where a checkpoint keeps what only the continuation of its training needs."""

_FORMAT = 1
_AT_ONCE = 2**26
"""Bytes of a file that are summed at once: between two parts the thread may have to wait for Python."""


def manifest_bytes(sums: dict[str, FileSum]) -> bytes:
    """The content of manifest.json for these files (name within the checkpoint, with `/` -> sum)."""
    files = {name: {"bytes": total.n_bytes, "sha256": total.sha256} for name, total in sums.items()}
    return (json.dumps({"format": _FORMAT, "files": files}, indent=1) + "\n").encode()


def verify_checkpoint(directory: Path, *, model: bool = True, trainer: bool = True) -> None:
    """Compare every file with the manifest, or only those of the `model` or of its `trainer`.

    A directory without a manifest, written by another tool, has nothing to be compared with and passes.
    Raises InputError naming the first file that is missing, truncated or altered.
    """
    if not (directory / MANIFEST).exists():
        return
    for name, saved in _read_manifest(directory / MANIFEST).items():
        if trainer if name.startswith(TRAINER) else model:
            _verify_file(inside(directory, name), saved)


@contextmanager
def verified(directory: Path) -> Generator[None, None, None]:
    """Compare the model in `directory` with its manifest while what stands inside reads it.

    Raises InputError at the end as `verify_checkpoint` does, also instead of an error that damage led to inside.
    """
    refusals: list[InputError] = []

    def verify() -> None:
        try:
            verify_checkpoint(directory, trainer=False)
        except InputError as refusal:
            refusals.append(refusal)

    verifying = threading.Thread(target=verify, daemon=True)
    verifying.start()
    try:
        yield
    except Exception:
        verifying.join()
        if refusals:
            raise refusals[0] from None
        raise
    verifying.join()
    if refusals:
        raise refusals[0]


def saved_names(directory: Path) -> set[str]:
    """The files that a checkpoint was saved with. Raises InputError where the manifest was altered."""
    return {MANIFEST, *_read_manifest(directory / MANIFEST)}


def _verify_file(path: Path, saved: FileSum) -> None:
    instead = f"take another checkpoint (or delete {MANIFEST} to use this one unchecked)"
    try:
        if not path.is_file():
            raise InputError(f"{path} is missing from its checkpoint: {instead}")
        n_bytes = path.stat().st_size
        if n_bytes != saved.n_bytes:
            raise InputError(f"{path} has {n_bytes} bytes, but was saved with {saved.n_bytes}: {instead}")
        sha256 = _sha256(path)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; {instead}") from None
    if sha256 != saved.sha256:
        raise InputError(f"{path} was altered since it was saved (its SHA-256 differs): {instead}")


def _sha256(path: Path) -> str:
    digest, end = hashlib.sha256(), path.stat().st_size
    with path.open("rb") as file:
        for start in range(0, end, _AT_ONCE):
            n_bytes = min(_AT_ONCE, end - start)
            with mmap.mmap(file.fileno(), n_bytes, access=mmap.ACCESS_READ, offset=start) as mapped:
                digest.update(mapped)
    return digest.hexdigest()


def _read_manifest(path: Path) -> dict[str, FileSum]:
    """The sums in a manifest that is byte for byte as we write it and names only files beside it."""
    try:
        content = read_bytes(path)
        entries = json.loads(content)["files"].items()
        sums = {name: FileSum(n_bytes=entry["bytes"], sha256=entry["sha256"]) for name, entry in entries}
        outside = any(".." in Path(name).parts or Path(name).is_absolute() for name in sums)
        if manifest_bytes(sums) == content and not outside:
            return sums
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise InputError(f"{path} was altered since it was saved: take another checkpoint")
