"""Zip archives, of which office documents and e-books are made. Parts are read where they lie, none is unpacked."""

import gzip
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

from glassgpt.text.formats.interface import NotText, Source
from glassgpt.text.formats.xml import Reader, read_elements, read_xml

_LARGEST_DIRECTORY = 64 * 1024 * 1024  # bytes; zipfile holds the list of parts in memory
_DAMAGE = (
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
    gzip.BadGzipFile,
    OverflowError,
)


class Guarded:
    """A source whose errors in the packing become NotText; errors of the disk stay what they are."""

    def __init__(self, source: Source, complaint: str) -> None:
        self._source = source
        self._complaint = complaint

    def read(self, size: int, /) -> bytes:
        with damage_is(self._complaint):
            return self._source.read(size)

    def seek(self, offset: int, /) -> int:
        with damage_is(self._complaint):
            return self._source.seek(offset)


@contextmanager
def damage_is(complaint: str) -> Iterator[None]:
    """Raise NotText with `complaint` where what is packed cannot be unpacked."""
    try:
        yield
    except _DAMAGE:
        raise NotText(complaint) from None
    except OSError as error:
        if error.errno not in (None, 22):  # 22: a place in the file that cannot be, such as one before its beginning
            raise
        raise NotText(complaint) from None


class Archive:
    """The parts of a zip archive by name. `sort`, such as "Word document", is for the reasons."""

    def __init__(self, file: BinaryIO, sort: str) -> None:
        self.sort = sort
        _check_directory(file, sort)
        with damage_is(f"is a damaged {sort} (its list of parts cannot be read); get another copy of it"):
            self._zip = zipfile.ZipFile(file)
            self._parts = {info.filename: info for info in self._zip.infolist()}

    def __contains__(self, part: str) -> bool:
        return part in self._parts

    def names(self) -> Iterator[str]:
        return iter(self._parts)

    def open(self, part: str) -> Guarded:
        """A part's bytes. Raises NotText where it is missing, damaged, encrypted or packed in an unusual way."""
        info = self._parts.get(part)
        if info is None:
            raise NotText(f"is a damaged {self.sort} (its part {part} is missing); get another copy of it")
        if info.flag_bits & 1:
            raise NotText(f"is a {self.sort} locked by a password; save it without one")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise NotText(f"packs its part {part} in an unusual way; save it anew with the program that made it")
        complaint = f"is a damaged {self.sort} (its part {part} cannot be unpacked); get another copy of it"
        with damage_is(complaint):
            return Guarded(self._zip.open(info), complaint)

    def read_xml(self, part: str, reader: Reader) -> Iterator[str]:
        """As `xml.read_xml`, for one part."""
        return read_xml(self.open(part), part, reader)

    def read_elements(self, part: str, element: Callable[[str, dict[str, str]], None]) -> None:
        """As `xml.read_elements`, for one part."""
        read_elements(self.open(part), part, element)

    def head(self, part: str, size: int) -> bytes:
        """The first bytes of a part, none where it is missing."""
        return self.open(part).read(size) if part in self else b""


def _check_directory(file: BinaryIO, sort: str) -> None:
    """Refuse an archive whose list of parts would not fit into memory."""
    size = file.seek(0, 2)
    file.seek(max(0, size - 65_557))
    tail = file.read(65_557)
    at = tail.rfind(b"PK\5\6")
    if 0 <= at <= len(tail) - 16:
        n_bytes = int.from_bytes(tail[at + 12 : at + 16], "little")
        in_64_bits = tail.rfind(b"PK\6\6", 0, at)
        if n_bytes == 0xFFFFFFFF and 0 <= in_64_bits <= len(tail) - 48:
            n_bytes = int.from_bytes(tail[in_64_bits + 40 : in_64_bits + 48], "little")
        if _LARGEST_DIRECTORY < n_bytes <= size:
            raise NotText(f"is a {sort} with too many parts to list; unpack it and give the folder")
