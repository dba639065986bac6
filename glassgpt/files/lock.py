"""Keeping other processes out of a folder for as long as this one works in it, also where it ends by a kill."""

import os
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

HAS_LOCKS = fcntl is not None


def lock(folder: Path) -> int | None:
    """A descriptor that keeps others out of `folder` for as long as it is open; None where there are no such locks.

    Raises BlockingIOError where another process has the folder, OSError where it cannot be opened.
    """
    if fcntl is None:
        return None
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_there = folder.exists() and os.path.samestat(os.fstat(descriptor), os.stat(folder))
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError:  # some network file systems have no locks
        os.close(descriptor)
        return None
    if not is_there:
        os.close(descriptor)
        raise BlockingIOError(f"{folder} was renamed or removed meanwhile")
    return descriptor
