"""Bytes -> text in blocks, and the names of encodings."""

import codecs
from collections.abc import Iterator
from encodings.aliases import aliases

from glassgpt.settings import InputError, nearest
from glassgpt.text.formats.interface import NotText, Source

BLOCK = 1 << 20
_MARKS = (  # UTF-32's first: UTF-16's little-endian mark is the beginning of it
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_NOT_OF_FILES = {"idna", "punycode", "undefined", "unicode-escape", "raw-unicode-escape"}


class Misfit(Exception):
    """The byte at `offset` is not what the encoding allows there. A zero byte never is, except in UTF-16 and UTF-32."""

    def __init__(self, offset: int, byte: int) -> None:
        super().__init__(f"byte 0x{byte:02x} at offset {offset}")
        self.offset = offset
        self.is_zero = byte == 0


class Decoded:
    """The text of `source` from its beginning, in blocks, without a byte order mark.

    With `replace`, U+FFFD stands for what does not fit, and `n_replaced` counts those as they come. `n_ascii` is a
    number of bytes at the beginning that are all ASCII. Iterating raises Misfit where a byte does not fit.
    """

    def __init__(self, source: Source, encoding: str, *, replace: bool = False) -> None:
        self.encoding = encoding
        self.n_replaced = 0
        self.n_ascii = 0
        self._source = source
        self._replace = replace

    def __iter__(self) -> Iterator[str]:
        self._source.seek(0)
        self.n_replaced = self.n_ascii = 0
        decoder = codecs.getincrementaldecoder(self.encoding)("replace" if self._replace else "strict")
        has_zeros = self.encoding.startswith(("utf-16", "utf-32"))
        n_read, is_first = 0, True
        while True:
            block = self._source.read(BLOCK)
            if self.n_ascii == n_read and block.isascii():
                self.n_ascii += len(block)
            if not has_zeros and b"\0" in block:
                raise Misfit(n_read + block.index(0), 0)
            pending = decoder.getstate()[0]  # a character that the last block cut in two
            try:
                text = decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                data = pending + block
                at = min(error.start, max(0, len(data) - 1))
                raise Misfit(n_read - len(pending) + at, data[at] if data else 0xFF) from None
            except UnicodeError:  # from codecs that do not say where
                raise Misfit(n_read, block[0] if block else 0xFF) from None
            if self._replace and "\ufffd" in text:
                data = pending + block
                rest = len(decoder.getstate()[0])
                self.n_replaced += text.count("\ufffd") - data[: len(data) - rest].count(b"\xef\xbf\xbd")
            if has_zeros and "\0" in text:
                raise NotText("is binary (it holds characters of the code zero), not text; give a text file")
            if text and is_first:
                text, is_first = text.removeprefix("\ufeff"), False
            n_read += len(block)
            yield text
            if not block:
                return


def check_encoding(name: str) -> str:
    """The usual name of an encoding. Raises InputError for one that Python does not know."""
    try:
        "a".encode(name)  # also refuses what turns bytes into bytes, such as hex
        usual = codecs.lookup(name).name
    except (LookupError, ValueError):
        usual = ""
    if usual and usual not in _NOT_OF_FILES:
        return usual.removesuffix("-sig")
    close = nearest(name.lower().replace("-", "_"), {*aliases, *aliases.values()} - {"hex", "rot13", "uu", "zip"})
    hint = f"did you mean {close.replace('_', '-')}?" if close else "write, for example, utf-8, cp1252 or shift-jis"
    raise InputError(f"data.encoding is {name!r}, which is no encoding that Python knows: {hint}")


def marked_encoding(head: bytes) -> str | None:
    """The encoding that a byte order mark at the beginning of a file names."""
    return next((encoding for mark, encoding in _MARKS if head.startswith(mark)), None)
