"""The corpus: all documents, one after the other, as one file of UTF-8 that knows where each of them ends.

Whoever reads a file writes its text here, piece by piece. It is counted, split, cut into parts and turned into ids
piece by piece as well, so that a text may be larger than memory: what is over a sixteenth of `max_ram` lies on disk.
Positions are bytes; a position in characters is found by an index that has an entry about every 64 kB.
"""

import bisect
import hashlib
import itertools
import re
import tempfile
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import numpy as np

from glassgpt.settings import InputError
from glassgpt.text.cutting import PART_LENGTH, cut_stream

GIGABYTE = 10**9
_PIECE = 1 << 16  # characters that are kept back before they are encoded, and bytes between two entries of the index
_BLOCK = 1 << 20  # bytes read at once
_BYTES_PER_DIGEST = 128  # of memory, in the table of the documents seen
_GOLDEN = 0.6180339887498949
_SURROGATE = re.compile("[\ud800-\udfff]")

Part = tuple[str, bool]
"""A piece of text, and whether a document ends with it and another follows."""


class Full(Exception):
    """As much was written as was asked for."""


@contextmanager
def writing_to(folder: Path | None) -> Iterator[None]:
    """Inside, a system that refuses to write a text to `folder` is one line."""
    try:
        yield
    except OSError as error:
        place = folder or tempfile.gettempdir()
        raise InputError(
            f"cannot keep the text in {place}: {error.strerror}; choose another folder with --data.cache"
        ) from None


class Corpus:
    """Documents in the order they were written; each differs from all before, unless `keep_duplicates`.

    `max_bytes` ends the writing, at a whole character. `folder` is where the file lies once it is large; the system's
    own for temporary files, if none is given. It goes with the corpus.
    """

    def __init__(
        self,
        *,
        max_ram: int = GIGABYTE,
        max_bytes: int | None = None,
        keep_duplicates: bool = False,
        folder: Path | None = None,
    ) -> None:
        self.max_ram = max_ram
        self.n_bytes = self.n_characters = self.n_words = self.n_duplicates = 0
        self._max_bytes = max_bytes
        self._folder = folder
        place = str(folder) if folder else None
        self._file = tempfile.SpooledTemporaryFile(max_ram // 16, prefix=".corpus-", dir=place)  # noqa: SIM115
        self._ends = array("Q")  # of documents, in bytes
        self._index = (array("Q", [0]), array("Q", [0]))  # the same places in bytes and in characters
        self._digest = hashlib.sha256()  # of the digests of all documents
        self._seen: dict[bytes, None] | None = None if keep_duplicates else {}
        self._clear_pending()
        self._begin_document()
        self.begin_file()

    @classmethod
    def of(cls, texts: Iterable[str]) -> Self:
        """A corpus of these documents, equal ones too."""
        corpus = cls(keep_duplicates=True)
        for text in texts:
            corpus.write(text)
            corpus.end_document()
        return corpus

    # Writing.

    def begin_file(self) -> None:
        """Note the place that `restart` goes back to."""
        self._before_file = (len(self._ends), self.n_duplicates, len(self._seen or ()), self._digest.copy())
        self._file_began = self._document_began

    def restart(self) -> None:
        """Forget what was written since the file began."""
        n_documents, self.n_duplicates, n_seen, digest = self._before_file
        del self._ends[n_documents:]
        while self._seen and len(self._seen) > n_seen:
            self._seen.popitem()
        self._digest = digest.copy()
        self._document_began = self._file_began
        self._undo_document()

    def write(self, text: str) -> None:
        """Add to the current document. The line ends CR LF and CR become LF, half a surrogate pair U+FFFD.

        Raises Full where the corpus has all that it takes.
        """
        self._pending.append(text)
        self._n_pending += len(text)
        if self._n_pending >= _PIECE:
            self._flush()

    def end_document(self) -> None:
        """End the current document. Nothing but white space is none, and what was there before is counted, not kept."""
        self._flush(is_last=True)
        if not self._has_text:
            self._undo_document()
            return
        digest = self._document_digest.digest()
        if self._seen is not None:
            if digest in self._seen:
                self.n_duplicates += 1
                self._undo_document()
                return
            if len(self._seen) * _BYTES_PER_DIGEST < self.max_ram // 8:
                self._seen[digest] = None
        self._digest.update(digest)
        self._ends.append(self.n_bytes)
        self._begin_document()

    def _begin_document(self) -> None:
        self._document_began = (self.n_bytes, self.n_characters, self.n_words)
        self._document_digest = hashlib.sha256()
        self._has_text = False
        self._after_space = True

    def _undo_document(self) -> None:
        self._clear_pending()
        self.n_bytes, self.n_characters, self.n_words = self._document_began
        n_kept = bisect.bisect_right(self._index[0], self.n_bytes)
        for places in self._index:
            del places[n_kept:]
        self._file.seek(self.n_bytes)
        self._file.truncate()
        self._begin_document()

    def _clear_pending(self) -> None:
        """Nothing of the current document waits to be written."""
        self._pending: list[str] = []
        self._n_pending = 0

    def _flush(self, is_last: bool = False) -> None:
        """Write what is pending, all but a carriage return at its end that a line feed may follow."""
        text = "".join(self._pending)
        self._clear_pending()
        if text.endswith("\r") and not is_last:
            text = text[:-1]
            self._pending.append("\r")
        if not text:
            return
        try:
            data = text.encode()
        except UnicodeEncodeError:
            text = _SURROGATE.sub("\ufffd", text)
            data = text.encode()
        n_characters = len(text)
        if b"\r" in data:  # in bytes, where it takes a tenth of the time
            n_characters -= data.count(b"\r\n")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        is_full = self._max_bytes is not None and self.n_bytes + len(data) > self._max_bytes
        if self._max_bytes is not None and is_full:
            text = data[: self._max_bytes - self.n_bytes].decode(errors="ignore")
            data, n_characters = text.encode(), len(text)
        self._has_text = self._has_text or not (text.isspace() or not text)
        self._document_digest.update(data)
        self._count_words(data)
        if self.n_bytes - self._index[0][-1] >= _PIECE:
            self._index[0].append(self.n_bytes)
            self._index[1].append(self.n_characters)
        with writing_to(self._folder):
            self._file.seek(self.n_bytes)
            self._file.write(data)
        self.n_bytes += len(data)
        self.n_characters += n_characters
        if is_full:
            raise Full

    def _count_words(self, data: bytes) -> None:
        """Count where white space (or nothing) is followed by something else."""
        is_space = np.frombuffer(data, np.uint8) <= 32
        if len(is_space):
            begins = self._after_space and not is_space[0]
            self.n_words += int(np.count_nonzero(is_space[:-1] & ~is_space[1:])) + begins
            self._after_space = bool(is_space[-1])

    # Reading.

    @property
    def n_documents(self) -> int:
        return len(self._ends)

    def digest(self) -> bytes:
        """SHA-256 of the SHA-256 of each document: equal for equal documents in equal order."""
        return self._digest.digest()

    def documents(self) -> Iterator[str]:
        """The text of each document, whole."""
        for start, end in itertools.pairwise([0, *self._ends]):
            yield self._read(start, end).decode()

    def all(self) -> "Portion":
        """Everything."""
        return Portion(self, 0, self.n_bytes)

    def text(self, first: int, end: int) -> str:
        """The characters `first` to `end`, over the ends of documents."""
        return self._read(self.byte_of(first), self.byte_of(end)).decode()

    def byte_of(self, character: int) -> int:
        """Where a character begins."""
        entry = bisect.bisect_right(self._index[1], character) - 1
        start, before = self._index[0][entry], self._index[1][entry]
        for block in self._blocks(start, self.n_bytes):
            text = block.decode()
            if before + len(text) >= character:
                return start + len(text[: character - before].encode())
            start += len(block)
            before += len(text)
        return self.n_bytes

    def character_of(self, byte: int) -> int:
        """How many characters there are before a byte, which is the first of a character."""
        entry = bisect.bisect_right(self._index[0], byte) - 1
        start, before = self._index[0][entry], self._index[1][entry]
        return before + sum(len(block.decode()) for block in self._blocks(start, byte))

    def first_end_after(self, byte: int) -> int:
        """The number of the first document that ends after a byte."""
        return bisect.bisect_right(self._ends, byte)

    def end_of(self, document: int) -> int:
        """Where a document ends, in bytes; the one before the first at 0."""
        return self._ends[document] if document >= 0 else 0

    def _read(self, start: int, end: int) -> bytes:
        self._file.seek(start)
        return self._file.read(max(0, min(end, self.n_bytes) - start))

    def _blocks(self, start: int, end: int) -> Iterator[bytes]:
        """What stands between two places, in blocks of whole characters."""
        while start < end:
            block = self._read(start, min(end, start + _BLOCK))
            block = block if start + len(block) >= end else _whole_characters(block)
            yield block
            start += len(block)


class Portion:
    """A stretch of a corpus, from one byte to another."""

    def __init__(self, corpus: Corpus, start: int, end: int) -> None:
        self.corpus, self.start, self.end = corpus, start, end

    @property
    def n_bytes(self) -> int:
        return self.end - self.start

    @property
    def n_characters(self) -> int:
        return self.corpus.character_of(self.end) - self.corpus.character_of(self.start)

    def blocks(self) -> Iterator[str]:
        """All of the text in blocks of about a megabyte, over the ends of documents."""
        for block in self.corpus._blocks(self.start, self.end):
            yield block.decode()

    def parts(self, n_characters: int = PART_LENGTH) -> Iterator[Part]:
        """All of the text in parts of at least so many characters, or a document, whose ids joined are its ids."""
        corpus, start = self.corpus, self.start
        first = corpus.first_end_after(start)
        while start < self.end:
            if corpus.end_of(first) - start <= _BLOCK // 16:  # many short documents are read at once
                last = max(first + 1, corpus.first_end_after(start + _BLOCK))
                ends = [min(corpus.end_of(number), self.end) for number in range(first, last)]
                data = corpus._read(start, ends[-1])
                for before, end in itertools.pairwise([start, *ends]):
                    if before < self.end:
                        yield data[before - start : end - start].decode(), end < self.end
                start, first = ends[-1], last
                continue
            end = min(corpus.end_of(first), self.end)
            blocks = (block.decode() for block in corpus._blocks(start, end))
            part = ""
            for following in cut_stream(blocks, n_characters):
                if part:
                    yield part, False
                part = following
            yield part, end < self.end
            start, first = end, first + 1

    def sample(self) -> Iterator[str]:
        """Blocks to learn a vocabulary from, in reading order; of a large text so many as memory allows.

        Learning takes about 120 bytes for each byte of different words. Half of the memory may go into that. Where a
        text could have more, its blocks come in an order in which each falls into the largest gap between those before
        (multiples of the golden ratio), and they end where their words, told apart by white space, are too many.
        """
        limit = self.corpus.max_ram // 240
        if self.n_bytes <= limit:
            yield from (part for part, _ in self.parts())
            return
        n_blocks = -(-self.n_bytes // _BLOCK)
        words: set[str] = set()
        n_different = n_read = 0
        for number in sorted(range(n_blocks), key=lambda n: n * _GOLDEN % 1.0):
            start = self.start + number * _BLOCK
            data = self.corpus._read(start, min(self.end, start + _BLOCK))
            block = data.decode(errors="ignore")  # the characters at its ends may be halved
            new = set(block.split()) - words
            words |= new
            n_different += sum(map(len, new))
            n_read += len(data)
            if n_read > _BLOCK and (n_different > limit or n_read > SAMPLE):
                return
            yield block


SAMPLE = 100_000_000
"""Bytes that a vocabulary is learned from at most: more change it little, and take long."""


def _whole_characters(data: bytes) -> bytes:
    """`data` without a UTF-8 character that was cut off at its end."""
    for back in range(1, min(4, len(data)) + 1):
        if data[-back] >= 0xC0:  # the first byte of a character, and how long that is
            length = 2 + (data[-back] >= 0xE0) + (data[-back] >= 0xF0)
            return data if length == back else data[:-back]
    return data
