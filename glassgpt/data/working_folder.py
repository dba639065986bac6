"""The folder in which a text is prepared, until it is complete and gets its name.

It is called `.preparing-<hash>` and locked by the process that works in it. What a killed process left there, the
next preparation of the same text finds, and goes on where it says how far it was (see portions.py). Where another
process has the folder, or the system has no such locks (Windows), the work is done in a folder of its own, and what
is interrupted there is lost.

A folder goes when its text is complete (it is renamed) or when the preparation fails and nothing in it can be gone on
with. What nobody came back to for a week goes at the next preparation of any text.
"""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from glassgpt.files.atomic import make_directory, sync_directory
from glassgpt.files.lock import HAS_LOCKS, lock
from glassgpt.settings import InputError

WORKING = ".preparing-"
"""Begins the name of whatever in the cache is not complete."""
PROGRESS = "progress.json"
"""In a folder that can be gone on with."""
WEEK = 7 * 24 * 3600.0


@contextmanager
def working_folder(directory: Path, last: str) -> Generator[Path, None, None]:
    """A folder to work in that becomes `directory` when the block ends; every file in it must be on the disk by then.

    A `directory` that lacks the file `last`, so was never complete, is replaced; a complete one, which another process
    was faster with, stays. Raises InputError where the cache folder cannot be written to.
    """
    try:
        make_directory(directory.parent)
        folder = directory.with_name(WORKING + directory.name)
        held = _lock(folder)
        can_go_on = held is not None
        if held is None:
            folder = Path(tempfile.mkdtemp(prefix=f"{WORKING}{directory.name}-", dir=directory.parent))
            held = _lock(folder)
    except OSError as error:
        what = f"cannot write to {directory.parent}: {error.strerror}"
        raise InputError(f"{what}; choose another cache folder") from None
    try:
        yield folder
        _put_in_place(folder, directory, last)
    except BaseException:
        if not (can_go_on and (folder / PROGRESS).exists()):
            shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        if held is not None:
            os.close(held)


def remove_abandoned(cache: Path) -> None:
    """Remove what killed preparations left in `cache` more than a week ago and nobody works on."""
    for entry in [entry for entry in os.scandir(cache) if entry.name.startswith(WORKING)]:
        try:
            if time.time() - entry.stat(follow_symlinks=False).st_mtime < WEEK:
                continue
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry)
            elif not HAS_LOCKS:
                shutil.rmtree(entry)
            elif (held := _lock(Path(entry))) is not None:
                try:
                    shutil.rmtree(entry)
                finally:
                    os.close(held)
        except OSError:  # another process was faster, or it is not ours to remove
            continue


def _lock(folder: Path) -> int | None:
    """A descriptor that keeps others out of `folder`, which is made; None where that cannot be had."""
    if HAS_LOCKS:
        with contextlib.suppress(BlockingIOError):
            folder.mkdir(exist_ok=True)
            return lock(folder)
    return None


def _put_in_place(folder: Path, directory: Path, last: str) -> None:
    sync_directory(folder)
    if directory.exists() and not (directory / last).exists():
        shutil.rmtree(directory)
    try:
        os.replace(folder, directory)
    except OSError:
        if not (directory / last).exists():
            raise
        shutil.rmtree(folder, ignore_errors=True)
    sync_directory(directory.parent)
    (directory / PROGRESS).unlink(missing_ok=True)
