"""Documents: whatever the user names, as text.

A source is a file of any format that `formats` reads, a folder, a glob pattern, "-" for standard input, or "pydoc".
What a user names by hand must be readable, or the reading stops with one line that says why. What is merely found, in
a folder or by a pattern, is skipped where it is no text, and every skip is reported.
"""

import collections
import dataclasses
import glob
import math
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, cast

from glassgpt.settings import InputError, nearest
from glassgpt.text.corpus import GIGABYTE, Corpus, Full, Portion, writing_to
from glassgpt.text.formats import FileFacts, FormatOptions, NotText, read_file
from glassgpt.text.pydoc import read_pydoc

HIDDEN = "is hidden, or left there by a program"
"""Why files are passed over that nobody means: those with a dot before their name, locks of Word, and these."""
LEFT_BY_SYSTEMS = ("Thumbs.db", "desktop.ini")
GIVEN = "documents()"
"""What stands for a source where the texts come from a program."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReadOptions(FormatOptions):
    """How sources become a corpus."""

    max_ram: int = GIGABYTE
    """Bytes of memory for all that follows from the text until it is ids; what is larger lies on disk."""
    max_bytes: int | None = None
    """Of text, in UTF-8; reading ends there, at a whole character."""
    keep_duplicates: bool = False
    """Whether a document that equals an earlier one is kept."""
    folder: Path | None = None
    """Where what is on disk lies, and where "pydoc" is kept."""


@dataclasses.dataclass
class Reading:
    """What came of reading: the corpus, and what was met on the way.

    `n_files` counts what was read by format; `skipped` holds (path, reason) pairs, the reason completing the sentence
    "path …"; `duplicates` names files of which all was there before; `n_replaced` counts the U+FFFD signs that stand
    for invalid UTF-8; `detected` names the encoding of each file that is not UTF-8 and did not say what it is;
    `changed` lists files that were written to while they were read.
    `is_cut` says that there is more than `max_bytes`. `stdin` is what standard input gave.
    """

    corpus: Corpus
    n_files: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    skipped: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    duplicates: list[str] = dataclasses.field(default_factory=list)
    n_replaced: int = 0
    detected: dict[str, str] = dataclasses.field(default_factory=dict)
    changed: list[str] = dataclasses.field(default_factory=list)
    is_cut: bool = False
    stdin: Portion | None = None


def read_documents(
    sources: Sequence[str], options: ReadOptions | None = None, *, stdin: BinaryIO | None = None
) -> Reading:
    """Read every source in the order given, folders and patterns in sorted order, no file twice.

    Folders are read with all folders inside them, except hidden ones. "pydoc" means Python's own documentation even
    where a file of this name exists (write ./pydoc for the file). `stdin` is what "-" reads, by default the standard
    input.

    Raises InputError for a source that is missing, empty, unreadable or no text, and for a folder or pattern in which
    no text is found.
    """
    if not sources:
        raise InputError("no text was named: give files, folders, a pattern, - for standard input, or pydoc")
    refuse_missing(sources)
    options = options or ReadOptions()
    if options.folder:
        with writing_to(options.folder):
            options.folder.mkdir(parents=True, exist_ok=True)
    reader = _Reader(options)
    reading = reader.reading
    try:
        for source in sources:
            if source == "-":
                reader.add_stdin(stdin or sys.stdin.buffer)
            elif source == "pydoc":
                reader.add_pydoc()
            elif os.path.isdir(source):
                reader.add_found(f"the folder {source}", _files_in(Path(source), reading.skipped))
            elif os.path.lexists(source):
                reader.add_file(Path(source))
            else:
                reader.add_found(f"the pattern {source}", _matches(source, reading.skipped))
    except Full:
        reading.corpus.end_document()
        reading.is_cut = True
    return reading


def refuse_missing(sources: Sequence[str]) -> None:
    """Raise InputError for a source that is not there; nothing is read yet."""
    for source in sources:
        if not (source in ("-", "pydoc") or os.path.lexists(source) or glob.has_magic(source)):
            raise InputError(f"there is no file or folder {source}{_instead_of(Path(source))}")


def collect_documents(texts: Iterable[str], options: ReadOptions | None = None) -> Reading:
    """The texts that a program gives, each a document. Raises InputError for anything else, and for none at all."""
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        raise InputError(f"{GIVEN} gave {texts!r:.60}, but must give texts one by one, such as a list of str")
    reading = _Reader(options or ReadOptions()).reading
    try:
        for text in texts:
            if not isinstance(text, str):
                raise InputError(f"{GIVEN} gave {text!r:.60}, but each document must be text (str)")
            reading.corpus.write(text)
            reading.corpus.end_document()
    except Full:
        reading.corpus.end_document()
        reading.is_cut = True
    if not reading.corpus.n_documents:
        raise InputError(f"{GIVEN} gave no text: give documents to learn from")
    return reading


def size_of(sources: Sequence[str]) -> float:
    """How many bytes `sources` have on disk, about; infinity for what only reading can tell."""
    total = 0.0
    for source in sources:
        path = Path(source)
        if source in ("-", GIVEN) or (path.exists() and not path.is_dir() and not path.is_file()):  # a pipe
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
    """Reads one source after the other into the corpus of `reading`."""

    def __init__(self, options: ReadOptions) -> None:
        corpus = Corpus(
            max_ram=options.max_ram, max_bytes=options.max_bytes, keep_duplicates=options.keep_duplicates,
            folder=options.folder,
        )  # fmt: skip
        self.reading = Reading(corpus)
        self._options = options
        self._seen: set[tuple[int, int]] = set()

    def add_pydoc(self) -> None:
        """Add Python's own documentation."""
        for _, text in read_pydoc(self._options.folder):
            self.reading.corpus.write(text)
            self.reading.corpus.end_document()
        self.reading.n_files["pydoc"] += 1

    def add_stdin(self, stdin: BinaryIO) -> None:
        """Add what standard input gives, which is kept in a file first: formats are read from any place."""
        before = self.reading.corpus.n_bytes
        try:
            self._add_stream(stdin, "-")
        except NotText as reason:
            raise InputError(f"standard input {reason}") from None
        finally:
            self.reading.stdin = Portion(self.reading.corpus, before, self.reading.corpus.n_bytes)

    def add_file(self, path: Path) -> None:
        """Add a file named by hand. Raises InputError where it cannot be read or is no text."""
        try:
            status = path.stat()
            if not (stat.S_ISREG(status.st_mode) or stat.S_ISFIFO(status.st_mode)):
                raise InputError(f"{path} is a device or socket, not a file; write - to read standard input")
            if self._is_new(path, status):
                self._add_path(path, status)
        except NotText as reason:
            raise InputError(f"{path} {reason}") from None
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}; check its permissions") from None

    def add_found(self, source: str, paths: Iterator[Path]) -> None:
        """Add the files of a folder or pattern; what is no text is noted in `skipped`.

        Raises InputError where none of them is text.
        """
        skipped = self.reading.skipped
        n_skipped = len(skipped)
        found_text = False
        for path in paths:
            try:
                status = path.stat()
                if not stat.S_ISREG(status.st_mode):
                    skipped.append((str(path), "is not a regular file"))
                    continue
                if self._is_new(path, status):
                    self._add_path(path, status)
                found_text = True
            except NotText as reason:
                skipped.append((str(path), str(reason)))
            except OSError as error:
                skipped.append((str(path), f"cannot be read: {error.strerror}"))
        if not found_text:
            reasons = [f": {path} {reason}" for path, reason in skipped[n_skipped:]]
            raise InputError(f"{source} has no file that can be read as text{''.join(reasons[:1])}")

    def _add_path(self, path: Path, status: os.stat_result) -> None:
        with path.open("rb") as file:
            if stat.S_ISFIFO(status.st_mode):
                self._add_stream(file, str(path))
                return
            self._add(file, str(path))
            after = os.fstat(file.fileno())
        if (after.st_size, after.st_mtime_ns) != (status.st_size, status.st_mtime_ns):
            self.reading.changed.append(str(path))

    def _add_stream(self, stream: BinaryIO, name: str) -> None:
        """Add a stream that can be read once."""
        limit, folder = self._options.max_bytes, self._options.folder
        in_memory = self._options.max_ram // 16
        place = str(folder) if folder else None
        with tempfile.SpooledTemporaryFile(in_memory, prefix=".stream-", dir=place) as kept:
            with writing_to(folder):
                if limit is None:
                    shutil.copyfileobj(stream, kept, 1 << 20)
                else:  # no more than is wanted, of what may never end
                    while kept.tell() <= limit and (block := stream.read(min(1 << 20, limit + 1 - kept.tell()))):
                        kept.write(block)
            is_more = limit is not None and kept.tell() > limit
            kept.seek(0)
            self._add(cast("BinaryIO", kept), name)
            if is_more:
                raise Full

    def _add(self, file: BinaryIO, name: str) -> None:
        """Add what a file holds. Raises NotText where that is no text; then nothing of it is kept."""
        corpus = self.reading.corpus
        corpus.begin_file()
        before = corpus.n_documents, corpus.n_duplicates
        try:
            facts = read_file(file, name, corpus, self._options)
        except Full:
            self.reading.n_files["text"] += 1
            raise
        except BaseException:
            corpus.restart()
            raise
        if (corpus.n_documents, corpus.n_duplicates) == before:
            raise NotText("holds no text; give a text to learn from")
        self._note(name, facts)
        if corpus.n_documents == before[0]:
            self.reading.duplicates.append(name)

    def _note(self, name: str, facts: FileFacts) -> None:
        self.reading.n_files[facts.format] += 1
        self.reading.n_replaced += facts.n_replaced
        if facts.detected:
            self.reading.detected[name] = facts.encoding

    def _is_new(self, path: Path, status: os.stat_result) -> bool:
        """Whether this file was not read before, under this name or another (a link)."""
        identity = (status.st_dev, status.st_ino)
        if identity in self._seen:
            self.reading.skipped.append((str(path), "was read already"))
            return False
        self._seen.add(identity)
        return True


def _files_in(folder: Path, skipped: list[tuple[str, str]]) -> Iterator[Path]:
    """Every file below `folder`, sorted. What is hidden is noted in `skipped`; no folder is entered twice."""
    entered: set[tuple[int, int]] = set()
    waiting = [folder]  # a stack instead of recursion: folders may be nested to any depth
    while waiting:
        path = waiting.pop()
        if path != folder and (path.name.startswith((".", "~$")) or path.name in LEFT_BY_SYSTEMS):
            skipped.append((str(path), HIDDEN))
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
