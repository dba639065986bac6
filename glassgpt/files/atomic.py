"""Files and folders that are there in full or not at all, whatever happens while they are written.

A rename is the one change that a file system makes entirely or not at all. So everything is written under
another name beside its place and forced to the disk (fsync), and only then renamed; the folder is forced to
the disk too, since it is the folder that a rename changes. A process that is killed leaves at most litter
with a name that `remove_litter` knows; the next start removes it.
"""

import contextlib
import errno
import hashlib
import os
import re
import shutil
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

LITTER = re.compile(r"\.(?P<name>.+)\.(?P<why>partial|replaced)-\d+")
"""`.<name>.partial-<pid>` was never finished; `.<name>.replaced-<pid>` is what `<name>` was before."""


class SaveError(RuntimeError):
    """The system refused to save: a full disk, for example. What was saved before is unharmed."""


@dataclass(frozen=True, kw_only=True)
class FileSum:
    """What a file must be when it is read again."""

    n_bytes: int
    sha256: str


def write_through(path: Path, parts: Iterable[bytes | memoryview]) -> FileSum:
    """Write `parts` one after the other and force them to the disk; the sum is taken on the way."""
    digest, n_bytes = hashlib.sha256(), 0
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        for part in parts:
            file.write(part)
            digest.update(part)
            n_bytes += len(part)
        file.flush()
        os.fsync(file.fileno())
    return FileSum(n_bytes=n_bytes, sha256=digest.hexdigest())


def write_atomically(path: Path, data: bytes) -> None:
    """Put `data` in the file `path`: a reader finds the old content or the new one, never a part of it.

    Raises SaveError where the system refuses; the old content is then still there.
    """
    partial = _beside(path, "partial")
    with _saving(path):
        try:
            write_through(partial, [data])
            os.replace(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        sync_directory(path.parent)


def append_line(path: Path, line: str) -> None:
    """Add a line to a text file. One that has no room is taken back, so that no later line is glued to its beginning.

    It is with the next `sync_file` that it is sure to outlast a power cut. Raises SaveError where the system refuses.
    """
    with _saving(path), path.open("ab", buffering=0) as file:
        end, data = file.seek(0, os.SEEK_END), memoryview(line.encode())
        try:
            while data:
                data = data[file.write(data) :]
        except BaseException:
            file.truncate(end)
            raise


def sync_file(path: Path) -> None:
    """Force to the disk what was appended to a file, if it is there. Raises SaveError where the system refuses."""
    with _saving(path), contextlib.suppress(FileNotFoundError), path.open("rb+") as file:
        os.fsync(file.fileno())


def make_directory(path: Path) -> None:
    """Make a folder, and those above it that are missing, such that no power cut takes one of them back."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync_directory(folder.parent)


@contextmanager
def written_aside(directory: Path) -> Generator[Path, None, None]:
    """A new folder to write into that becomes `directory` when the block ends, and is removed when it fails.

    A folder that has this name already is replaced: it stays until the new one is complete. Raises SaveError
    where the system refuses.
    """
    partial = _beside(directory, "partial")
    with _saving(directory):
        try:
            shutil.rmtree(partial, ignore_errors=True)  # of a dead process that had this one's id
            partial.mkdir(parents=True)
            yield partial
            for folder in [*(path for path in partial.rglob("*") if path.is_dir()), partial]:
                sync_directory(folder)
            _put_in_place(partial, directory)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


def link(path: Path, name: str) -> None:
    """Make `path` stand for its neighbour `name`: by a relative link, or by a text file that holds the name.

    The text file is for systems that refuse links. Raises SaveError where it cannot be written either.
    """
    partial = _beside(path, "partial")
    if path.is_dir() and not path.is_symlink():  # a copy of the run in which links had become folders
        shutil.rmtree(path, ignore_errors=True)
    try:
        partial.unlink(missing_ok=True)
        partial.symlink_to(name, target_is_directory=True)
        os.replace(partial, path)
        sync_directory(path.parent)
    except OSError:
        partial.unlink(missing_ok=True)
        write_atomically(path, f"{name}\n".encode())


def discard(directory: Path) -> None:
    """Remove a folder such that nobody meets half of it, after a power cut neither: its name goes first."""
    aside = _beside(directory, "partial")
    with _saving(directory):
        os.rename(directory, aside)
        sync_directory(directory.parent)
    shutil.rmtree(aside, ignore_errors=True)


def remove_litter(directory: Path) -> None:
    """Remove what killed processes left in `directory`; call it before the first save.

    All litter goes, whoever left it: a process id may be in use again, so it tells nothing, and a run has one
    writer. A folder that was about to be replaced gets its name back if the new one did not come.
    """
    found = [(path, litter) for path in sorted(directory.iterdir()) if (litter := LITTER.fullmatch(path.name))]
    if found:
        with _saving(directory):
            sync_directory(directory)  # the rename after which something is litter may not be on the disk yet
    for path, litter in found:
        with _saving(path):
            place = directory / litter["name"]
            if litter["why"] == "replaced" and not place.exists():
                os.rename(path, place)
            elif path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def sync_directory(directory: Path) -> None:
    """Force the names in a folder to the disk. Windows has no such call and orders its renames itself."""
    if os.name == "nt":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # which some network file systems answer
            raise
    finally:
        os.close(descriptor)


def _beside(path: Path, why: str) -> Path:
    return path.with_name(f".{path.name}.{why}-{os.getpid()}")


def _put_in_place(partial: Path, directory: Path) -> None:
    old = _beside(directory, "replaced")
    shutil.rmtree(old, ignore_errors=True)
    try:
        if directory.exists():
            os.rename(directory, old)
        os.rename(partial, directory)
    except BaseException:
        if old.exists() and not directory.exists():
            os.rename(old, directory)
        raise
    sync_directory(directory.parent)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _saving(path: Path) -> Generator[None, None, None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise SaveError(f"cannot save {path}: {reason}; what was saved before is unharmed") from error
