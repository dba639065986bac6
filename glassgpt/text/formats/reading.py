"""The door: what a file is, and the reader that makes text of it."""

import gzip
import os
from typing import BinaryIO, Literal, cast

from glassgpt.text.formats.archives import Archive, Guarded
from glassgpt.text.formats.encodings import Decoded, Misfit, check_encoding, marked_encoding
from glassgpt.text.formats.epub import read_epub
from glassgpt.text.formats.foreign import (
    AS_TEXT,
    N_FIRST_BYTES,
    OLD_OFFICE,
    foreign_by_first_bytes,
    foreign_by_parts,
    foreign_by_suffix,
)
from glassgpt.text.formats.guessing import guess_encoding
from glassgpt.text.formats.html import declared_encoding, read_html
from glassgpt.text.formats.interface import FileFacts, FormatOptions, NotText, Source, TextSink
from glassgpt.text.formats.json_lines import read_json_lines
from glassgpt.text.formats.layout import Layout
from glassgpt.text.formats.opendocument import read_opendocument
from glassgpt.text.formats.word import read_word

_Plain = Literal["text", "html", "jsonl"]
_Zipped = Literal["docx", "odt", "epub"]
_PLAIN: dict[str, _Plain] = {
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
_ZIPPED: dict[str, _Zipped] = {
    ".docx": "docx",
    ".docm": "docx",
    ".dotx": "docx",
    ".odt": "odt",
    ".ott": "odt",
    ".epub": "epub",
}
_SORTS = {"docx": "Word document", "odt": "OpenDocument text", "epub": "e-book"}
_ZIP, _GZIP, _OLE = b"PK\3\4", b"\x1f\x8b", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_HEAD = 8192
_NAME_IT = "name its encoding, if you know it, with --data.encoding (cp1252, koi8-r, shift-jis, ...)"


def read_file(file: BinaryIO, name: str, sink: TextSink, options: FormatOptions) -> FileFacts:
    """Write the text of `file` to `sink`, document by document, the last one ended.

    `file` can be sought in; `name` is its path, or "-". The suffix says what the format is, else the first bytes do.
    A byte order mark outranks `options.encoding`, and that what a page of HTML says of itself. Raises NotText where
    there is no text to be read, and InputError for an encoding that does not exist.
    """
    if options.encoding != "auto":
        check_encoding(options.encoding)
    file.seek(0)
    head = file.read(_HEAD)
    stem, suffix = os.path.splitext(name.lower())
    if head.startswith(_GZIP):
        return _read_gzip(file, stem if suffix == ".gz" else name, sink, options)
    if suffix == ".gz" and head:
        raise NotText("is a damaged gzip file (its first bytes are not gzip's); get another copy of it")
    if suffix in _ZIPPED or head.startswith(_ZIP):
        return _read_archive(file, head, suffix, sink, options)
    _refuse_foreign(head, suffix)
    return _read_decoded(file, head, suffix, sink, options)


def _refuse_foreign(head: bytes, suffix: str) -> None:
    if head.startswith(_OLE):
        raise NotText(f"is {foreign_by_suffix(suffix) or OLD_OFFICE}")
    if what := foreign_by_first_bytes(head[:N_FIRST_BYTES]):
        raise NotText(f"is {what}")


def _read_archive(file: BinaryIO, head: bytes, suffix: str, sink: TextSink, options: FormatOptions) -> FileFacts:
    if not head.startswith(_ZIP):
        sort = _SORTS[_ZIPPED[suffix]]
        if head.startswith(_OLE):
            raise NotText(f"is a {sort} locked by a password, or an old .doc; save it as {suffix} without one")
        raise NotText(f"is no {sort}, or a damaged one; a plain text under this name has to end in .txt")
    archive = Archive(file, _SORTS[_ZIPPED[suffix]] if suffix in _ZIPPED else "zip archive")
    kind = _ZIPPED.get(suffix) or _kind_of(archive)
    archive.sort = _SORTS[kind]
    n_replaced = 0
    if kind == "docx":
        read_word(archive, sink)
    elif kind == "odt":
        read_opendocument(archive, sink)
    else:
        n_replaced = read_epub(archive, sink, options)
    sink.end_document()
    return FileFacts(kind, "utf-8", n_replaced)


def _kind_of(archive: Archive) -> _Zipped:
    """Which document an archive of any name is. Raises NotText where it is none."""
    mimetype = archive.head("mimetype", 100)
    if mimetype.startswith(b"application/epub+zip") or "META-INF/container.xml" in archive:
        return "epub"
    if mimetype.startswith(b"application/vnd.oasis.opendocument.text"):
        return "odt"
    if "word/document.xml" in archive:
        return "docx"
    raise NotText(f"is {foreign_by_parts(list(archive.names()), mimetype)}")


def _read_gzip(file: BinaryIO, inner_name: str, sink: TextSink, options: FormatOptions) -> FileFacts:
    file.seek(0)
    packed = cast(Source, gzip.GzipFile(fileobj=file, mode="rb"))
    source = Guarded(packed, "is a damaged gzip file (it is cut off or changed); get another copy of it")
    head = source.read(_HEAD)
    suffix = os.path.splitext(inner_name)[1]
    if head.startswith(_GZIP):
        raise NotText("is compressed twice; unpack it first (gunzip FILE)")
    if head.startswith(_ZIP) or suffix in _ZIPPED:
        raise NotText("is a compressed document or archive; unpack it first (gunzip FILE)")
    _refuse_foreign(head, suffix)
    facts = _read_decoded(source, head, suffix, sink, options)
    return FileFacts(f"{facts.format}.gz", facts.encoding, facts.n_replaced, facts.detected)


def _read_decoded(source: Source, head: bytes, suffix: str, sink: TextSink, options: FormatOptions) -> FileFacts:
    """Read a text, a page or JSON Lines in the encoding marked, named or declared, else UTF-8, else a guessed one."""
    kind = _PLAIN.get(suffix) or ("html" if suffix in ("", ".") and _looks_like_html(head) else "text")
    named = None if options.encoding == "auto" else check_encoding(options.encoding)
    marked = marked_encoding(head)
    encoding = marked or named or (declared_encoding(head) if kind == "html" else None) or "utf-8"
    may_guess = not marked and not named and options.invalid_utf8 == "refuse"
    blocks = Decoded(source, encoding, replace=encoding == "utf-8" and options.invalid_utf8 == "replace")
    try:
        _read_blocks(blocks, kind, sink, options)
    except Misfit as misfit:
        if what := foreign_by_suffix(suffix):
            raise NotText(f"is {what}") from None
        guess = guess_encoding(source, blocks.n_ascii, misfit.offset) if may_guess else None
        if not guess:
            raise _refusal(misfit, encoding) from None
        sink.restart()
        blocks = Decoded(source, guess)
        try:
            _read_blocks(blocks, kind, sink, options)
        except Misfit as later:
            reason = f"is not valid {encoding} ({misfit}), and not {guess} throughout ({later})"
            raise NotText(f"{reason}; {_NAME_IT}") from None
        return FileFacts(kind, guess, detected=True)
    return FileFacts(kind, encoding, blocks.n_replaced)


def _refusal(misfit: Misfit, encoding: str) -> NotText:
    if misfit.is_zero:
        return NotText(f"is binary (a zero byte at offset {misfit.offset}), not text; {AS_TEXT}")
    reason = f"is not valid {encoding.upper() if encoding.startswith('utf') else encoding} ({misfit}); {_NAME_IT}"
    if encoding == "utf-8":
        reason += ", or have U+FFFD put in place of what is wrong: --data.invalid-utf8 replace"
    return NotText(reason)


def _read_blocks(blocks: Decoded, kind: _Plain, sink: TextSink, options: FormatOptions) -> None:
    if kind == "jsonl":
        read_json_lines(blocks, sink, options.text_field)
        return
    if kind == "html":
        layout = Layout(sink.write)
        read_html(blocks, layout)
        layout.end()
    else:
        for block in blocks:
            sink.write(block)
    sink.end_document()


def _looks_like_html(head: bytes) -> bool:
    return head.removeprefix(b"\xef\xbb\xbf").lstrip()[:14].lower().startswith((b"<!doctype html", b"<html"))
