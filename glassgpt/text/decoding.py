"""Bytes of a file -> text, or the reason why they are none."""

import codecs
import re
from typing import Literal

_OTHER_FORMATS = {
    ".pdf": "a PDF document",
    ".doc": "a Word document",
    ".docx": "a Word document",
    ".odt": "an OpenDocument text",
    ".rtf": "a Rich Text document",
    ".epub": "an e-book",
    ".gz": "a compressed file",
    ".xz": "a compressed file",
    ".zst": "a compressed file",
    ".zip": "an archive",
}
_ADVICE = "save it as plain text in UTF-8 and give that"
_CARRIAGE_RETURN = re.compile("\r\n?")


class NotText(Exception):
    """Why bytes cannot be read as text: the rest of a sentence that begins with the file's name."""


def decode_text(data: bytes, suffix: str, invalid_utf8: Literal["refuse", "replace"]) -> tuple[str, int]:
    """The text in `data`, and how many U+FFFD signs were put in place of invalid UTF-8.

    A byte order mark at the beginning is dropped; the line ends CR LF and CR become LF. `suffix`, such as
    ".pdf", only makes the reason clearer. Raises NotText for binary data, for invalid UTF-8 unless it is to
    be replaced, and where there is nothing but white space.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise NotText(f"is text in UTF-16; {_ADVICE}")
    body = data.removeprefix(codecs.BOM_UTF8)
    try:
        text, invalid = body.decode("utf-8"), None
    except UnicodeDecodeError as error:
        text, invalid = body.decode("utf-8", errors="replace"), error
    is_binary = b"\0" in data
    if (sort := _OTHER_FORMATS.get(suffix.lower())) and (is_binary or invalid or data.startswith(b"{\\rtf")):
        raise NotText(f"is {sort}, which cannot be read yet; {_ADVICE}")
    if is_binary:
        raise NotText(f"is binary (a zero byte at offset {data.index(0)}), not text; {_ADVICE}")
    if invalid and invalid_utf8 == "refuse":
        offset = len(data) - len(body) + invalid.start
        what = f"byte 0x{data[offset]:02x} at offset {offset}"
        raise NotText(f"is not valid UTF-8 ({what}); {_ADVICE}, or set invalid-utf8 to replace")
    if not text.strip():
        raise NotText("holds no text; give a text to learn from")
    n_replaced = text.count("\ufffd") - body.count("\ufffd".encode()) if invalid else 0
    return (_CARRIAGE_RETURN.sub("\n", text) if "\r" in text else text), n_replaced
