"""The texts of a run: where they lie prepared, how they are found again, what to tell of their reading."""

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from glassgpt import settings
from glassgpt.config import DataConfig, Settings
from glassgpt.data.prepare import Prepared, open_prepared, prepare
from glassgpt.settings import InputError
from glassgpt.text.documents import Reading, read_documents

DEFAULT_CACHE = Path("~/.cache/glassgpt")
_REFUSED = re.compile(r'[<>:"/\\|?*\x00-\x1f]')
"""Signs that Windows has in no file's name."""
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""Devices of Windows, with any suffix."""


def cache_folder(data: DataConfig) -> Path:
    """Where prepared texts live."""
    return Path(data.cache).expanduser() if data.cache else DEFAULT_CACHE.expanduser()


def prepared_of(directory: Path) -> Prepared:
    """The prepared text of a run, or of the run that a checkpoint lies in. Raises InputError where there is none."""
    for place in (directory, directory.parent):
        if (place / "config.yaml").exists():
            return prepared_again(Settings.from_dict(settings.read_yaml(place / "config.yaml")))
    raise InputError(
        f"{directory} is no run of GlassGPT, so it has no text of its own; `glassgpt eval` takes one with --data"
    )


def prepared_again(chosen: Settings) -> Prepared:
    """The run's own prepared text, prepared again where the cache no longer has it."""
    cache = cache_folder(chosen.data)
    if (cache / chosen.prepared / "prepared.json").exists():
        return open_prepared(cache / chosen.prepared)
    data = chosen.data
    reading = read_documents(chosen.text, invalid_utf8=data.invalid_utf8, cache_dir=cache, max_bytes=data.max_bytes)
    prepared = prepare(reading.documents, chosen.data, cache)
    if prepared.hash != chosen.prepared:
        raise InputError(
            f"the text {', '.join(chosen.text)} has changed since this run began: start a new run on it, or bring "
            "the old text back"
        )
    return prepared


def lasting(source: str, reading: Reading, cache: Path) -> str:
    """A source as it can be read again later: a file's whole path; standard input is kept in the cache."""
    if source == "-":
        text = next(document.text for document in reading.documents if document.name == "-")
        kept = cache / f"stdin-{hashlib.sha256(text.encode()).hexdigest()[:32]}.txt"
        kept.write_text(text, encoding="utf-8", newline="")
        return str(kept)
    return source if source == "pydoc" else os.path.abspath(source)


def run_name(texts: Sequence[str]) -> str:
    """The name of the first source: the file's, the folder's, or `stdin`; one that every system takes for a folder."""
    first = texts[0]
    name = "stdin" if first == "-" else Path(os.path.abspath(first.split("*")[0])).stem
    name = _REFUSED.sub("-", name).strip(". ")  # a dot at its beginning would hide it
    return f"{name}-run" if _RESERVED.fullmatch(name) else name or "run"


def reading_notes(reading: Reading) -> list[str]:
    """What was passed over or replaced while reading, for the header."""
    notes = []
    if reading.skipped:
        path, reason = reading.skipped[0]
        more = f" and {len(reading.skipped) - 1} more" if len(reading.skipped) > 1 else ""
        notes.append(f"skipped {path} ({reason}){more}")
    if reading.n_replaced:
        notes.append(f"{reading.n_replaced} signs U+FFFD stand for invalid UTF-8")
    return notes
