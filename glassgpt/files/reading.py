"""Files that may come from anybody: read only inside their directory, and only as far as such a file can be long.

The rooms that open a model directory, a run or a prepared text read its small files through here, so that a link to
elsewhere, a file of 50 GB under the name of a small one, or JSON nested a million deep is an answer, not an accident.
"""

import json
from pathlib import Path
from typing import Any

from glassgpt.settings import InputError

SMALL = 4_000_000
"""Bytes of a file that holds a few settings or counters, at most."""
LARGE = 64_000_000
"""Bytes of a file that lists tokens or tensors, at most. The largest known to us has a third of it."""


def inside(directory: Path, name: str) -> Path:
    """The path of the file `name` of a directory. Raises InputError where a link leads out of the directory.

    Links within it are followed, and those of Hugging Face's cache: from snapshots/<revision>/ to blobs/ beside it.
    """
    path = directory / name
    try:
        place, home = path.resolve(), directory.resolve()
    except (OSError, RuntimeError, ValueError):  # a link to itself; a name that can be none
        raise InputError(f"cannot open {path}: it is no name of a file, or a link to itself") from None
    blobs = home.parent.parent / "blobs"
    if not place.is_relative_to(home) and not (home.parent.name == "snapshots" and place.parent == blobs):
        raise InputError(f"{path} is a link out of its directory, which is not followed: copy the file there")
    return path


def read_bytes(path: Path, most: int = SMALL) -> bytes:
    """The content of a file. Raises InputError where it has more than `most` bytes, OSError as the system does."""
    inside(path.parent, path.name)
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is no file that can be read: fetch or save it again")
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise InputError(f"{path} has more than {most:,} bytes, so it is not what its name says: fetch it again")
    return content


def read_json(path: Path, most: int = SMALL) -> Any:
    """What a JSON file holds. Raises InputError as `read_bytes`, OSError, and ValueError where it is no JSON."""
    try:
        return json.loads(read_bytes(path, most))
    except RecursionError:
        raise ValueError("it is nested too deep") from None
