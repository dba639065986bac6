"""Documents: whatever the user names, as text.

A source is a file of any suffix, a folder, a glob pattern, "-" for standard input, or "pydoc". What a user
names by hand must be readable, or the reading stops with one line that says why. What is merely found, in a
folder or by a pattern, is skipped where it is no text, and every skip is reported.
"""

import dataclasses
import glob
import math
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Literal

from glassgpt.settings import InputError, nearest
from glassgpt.text.decoding import NotText, decode_text
from glassgpt.text.pydoc import read_pydoc


@dataclasses.dataclass(frozen=True)
class Document:
    """One text and where it came from: a path, "-" or "pydoc/…"."""

    name: str
    text: str


@dataclasses.dataclass(frozen=True)
class Reading:
    """What came of reading: the documents in order, and what was left out.

    `skipped` holds (path, reason) pairs; the reason completes the sentence "path …".
    `n_replaced` counts the U+FFFD signs that stand for invalid UTF-8. `is_cut` says that `max_bytes` were read, so that
    there may be more.
    """

    documents: list[Document]
    skipped: list[tuple[str, str]]
    n_replaced: int
    is_cut: bool = False


def read_documents(
    sources: Sequence[str],
    *,
    invalid_utf8: Literal["refuse", "replace"] = "refuse",
    cache_dir: Path | None = None,
    stdin: BinaryIO | None = None,
    max_bytes: int | None = None,
) -> Reading:
    """Read every source in the order given, folders and patterns in sorted order, no file twice.

    Folders are read with all folders inside them, except hidden ones. Text is UTF-8; a byte order mark at its
    beginning is dropped, and the line ends CR LF and CR become LF. Invalid UTF-8 is refused, or replaced by
    U+FFFD and counted, as `invalid_utf8` says. "pydoc" means Python's own documentation even where a file of
    this name exists (write ./pydoc for the file); it is kept in `cache_dir`, if one is given. `stdin` is what
    "-" reads, by default the standard input. Reading ends after `max_bytes` bytes, at a whole character.

    Raises InputError for a source that is missing, empty, unreadable, binary or another format than text, and
    for a folder or pattern in which no text is found.
    """
    if not sources:
        raise InputError("no text was named: give files, folders, a pattern, - for standard input, or pydoc")
    reader = _Reader(invalid_utf8, max_bytes)
    for source in sources:
        if reader.bytes_left == 0:
            break
        if source == "-":
            reader.add_named("-", reader.read(stdin or sys.stdin.buffer))
        elif source == "pydoc":
            reader.documents += [Document(f"pydoc/{name}", text) for name, text in read_pydoc(cache_dir)]
        elif os.path.isdir(source):
            reader.add_found(f"the folder {source}", _files_in(Path(source), reader.skipped))
        elif os.path.lexists(source):
            reader.add_file(Path(source))
        elif glob.has_magic(source):
            reader.add_found(f"the pattern {source}", _matches(source, reader.skipped))
        else:
            raise InputError(f"there is no file or folder {source}{_instead_of(Path(source))}")
    return Reading(reader.documents, reader.skipped, reader.n_replaced, is_cut=reader.bytes_left == 0)


def size_of(sources: Sequence[str]) -> float:
    """How many bytes `sources` have on disk, about; infinity for what only reading can tell."""
    total = 0.0
    for source in sources:
        path = Path(source)
        if source == "-" or (path.exists() and not path.is_dir() and not path.is_file()):  # a pipe
            return math.inf
        if source == "pydoc":
            continue  # small, and read from its own cache
        if path.is_file():
            found: Iterator[Path] = iter([path])
        else:
            found = _files_in(path, []) if path.is_dir() else _matches(source, [])
        total += sum(file.stat().st_size for file in found if file.is_file())
    return total


class _Reader:
    """Collects documents; knows what was read already and how invalid UTF-8 is to be met."""

    def __init__(self, invalid_utf8: Literal["refuse", "replace"], max_bytes: int | None) -> None:
        self.bytes_left = max_bytes  # None: no end
        self.documents: list[Document] = []
        self.skipped: list[tuple[str, str]] = []
        self.n_replaced = 0
        self._invalid_utf8: Literal["refuse", "replace"] = invalid_utf8
        self._seen: set[tuple[int, int]] = set()

    def add_named(self, name: str, data: bytes) -> None:
        """Add the bytes of a source named by hand. Raises InputError where they are no text."""
        try:
            self._add(name, data)
        except NotText as reason:
            raise InputError(f"{'standard input' if name == '-' else name} {reason}") from None

    def add_file(self, path: Path) -> None:
        """Add a file named by hand. Raises InputError where it cannot be read or is no text."""
        try:
            status = path.stat()
            if not (stat.S_ISREG(status.st_mode) or stat.S_ISFIFO(status.st_mode)):
                raise InputError(f"{path} is a device or socket, not a file; write - to read standard input")
            if self._is_new(path, status):
                with path.open("rb") as file:
                    data = self.read(file)
                self.add_named(str(path), data)
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}; check its permissions") from None

    def add_found(self, source: str, paths: Iterator[Path]) -> None:
        """Add the files of a folder or pattern; what is no text is noted in `skipped`.

        Raises InputError where none of them is text.
        """
        n_skipped = len(self.skipped)
        found_text = False
        for path in paths:
            if self.bytes_left == 0:
                break
            try:
                status = path.stat()
                if not stat.S_ISREG(status.st_mode):
                    self.skipped.append((str(path), "is not a regular file"))
                    continue
                if self._is_new(path, status):
                    with path.open("rb") as file:
                        data = self.read(file)
                    self._add(str(path), data)
                found_text = True
            except NotText as reason:
                self.skipped.append((str(path), str(reason)))
            except OSError as error:
                self.skipped.append((str(path), f"cannot be read: {error.strerror}"))
        if not found_text:
            reasons = [f": {path} {reason}" for path, reason in self.skipped[n_skipped:]]
            raise InputError(f"{source} has no file that can be read as text{''.join(reasons[:1])}")

    def read(self, file: BinaryIO) -> bytes:
        """The bytes of `file`, as far as there are any left to read; then without half a character at the end."""
        if self.bytes_left is None:
            return file.read()
        data = file.read(self.bytes_left)
        self.bytes_left -= len(data)
        return data if self.bytes_left else _whole_characters(data)

    def _add(self, name: str, data: bytes) -> None:
        text, n_replaced = decode_text(data, Path(name).suffix, self._invalid_utf8)
        self.documents.append(Document(name, text))
        self.n_replaced += n_replaced

    def _is_new(self, path: Path, status: os.stat_result) -> bool:
        """Whether this file was not read before, under this name or another (a link)."""
        identity = (status.st_dev, status.st_ino)
        if identity in self._seen:
            self.skipped.append((str(path), "was read already"))
            return False
        self._seen.add(identity)
        return True


def _whole_characters(data: bytes) -> bytes:
    """`data` without a UTF-8 character that was cut off at its end."""
    for back in range(1, min(4, len(data)) + 1):
        if data[-back] >= 0xC0:  # the first byte of a character, and how long that is
            length = 2 + (data[-back] >= 0xE0) + (data[-back] >= 0xF0)
            return data if length == back else data[:-back]
    return data


def _files_in(folder: Path, skipped: list[tuple[str, str]]) -> Iterator[Path]:
    """Every file below `folder`, sorted. What is hidden is noted in `skipped`; no folder is entered twice."""
    entered: set[tuple[int, int]] = set()
    waiting = [folder]  # a stack instead of recursion: folders may be nested to any depth
    while waiting:
        path = waiting.pop()
        if path != folder and path.name.startswith("."):
            skipped.append((str(path), "is hidden"))
            continue
        if not os.path.isdir(path):
            yield path
            continue
        try:
            status = path.stat()
            inside = sorted(path.iterdir(), reverse=True)
        except OSError as error:
            skipped.append((str(path), f"cannot be read: {error.strerror}"))
            continue
        if (status.st_dev, status.st_ino) in entered:
            skipped.append((str(path), "links to a folder that was read already"))
            continue
        entered.add((status.st_dev, status.st_ino))
        waiting += inside


def _matches(pattern: str, skipped: list[tuple[str, str]]) -> Iterator[Path]:
    """The files that a pattern finds and those in the folders that it finds, sorted."""
    for match in sorted(glob.glob(pattern, recursive=True)):
        yield from _files_in(Path(match), skipped)


def _instead_of(path: Path) -> str:
    """The nearest existing name beside a missing path, or the folder that is missing already."""
    if not os.path.isdir(path.parent):
        return f": the folder {path.parent} does not exist either"
    try:
        close = nearest(path.name, os.listdir(path.parent))
    except OSError:
        close = None
    return f"; did you mean {path.parent / close}?" if close else "; check the path"
