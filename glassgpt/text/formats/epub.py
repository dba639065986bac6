"""E-books (.epub): the chapters in reading order, as one document. Standard: EPUB 3.3."""

import posixpath
from urllib.parse import unquote

from glassgpt.text.formats.archives import Archive
from glassgpt.text.formats.encodings import Decoded, Misfit, marked_encoding
from glassgpt.text.formats.html import declared_encoding, read_html
from glassgpt.text.formats.interface import FormatOptions, NotText, TextSink
from glassgpt.text.formats.layout import Layout

_CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"
_FONTS_ONLY = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")
_PAGES = ("application/xhtml+xml", "text/html", "text/x-oeb1-document")
_MOST_ITEMS = 100_000
_HEAD = 4096


def read_epub(archive: Archive, sink: TextSink, options: FormatOptions) -> int:
    """Write the book in `archive`; returns how many U+FFFD signs were put in place of invalid UTF-8.

    The table of contents is left out where it is marked as one. Raises NotText for a damaged or locked book.
    """
    if _ENCRYPTION in archive:
        archive.read_elements(_ENCRYPTION, _refuse_locked)
    layout = Layout(sink.write)
    n_replaced = 0
    for chapter in _chapters(archive, _package(archive)):
        head = archive.open(chapter).read(_HEAD)
        encoding = marked_encoding(head) or declared_encoding(head) or "utf-8"
        replace = options.invalid_utf8 == "replace" and encoding == "utf-8"
        blocks = Decoded(archive.open(chapter), encoding, replace=replace)
        layout.separate(2)
        try:
            read_html(blocks, layout)
        except Misfit as misfit:
            raise NotText(
                f"has a chapter {chapter} that is not valid {encoding} ({misfit}); get another copy of it"
                + (", or read it with --data.invalid-utf8 replace" if encoding == "utf-8" else "")
            ) from None
        n_replaced += blocks.n_replaced
    layout.end()
    return n_replaced


def _refuse_locked(name: str, attributes: dict[str, str]) -> None:
    if name == "EncryptionMethod" and attributes.get("Algorithm") not in _FONTS_ONLY:
        raise NotText("is an e-book locked by DRM, which cannot be read; give a copy without it")


def _package(archive: Archive) -> str:
    """The part that lists the others."""
    packages: list[str] = []

    def element(name: str, attributes: dict[str, str]) -> None:
        if name == "rootfile" and not packages:
            packages.append(attributes.get("full-path", ""))

    archive.read_elements(_CONTAINER, element)
    if not packages:
        raise NotText(f"is a damaged e-book ({_CONTAINER} names no package); get another copy of it")
    return packages[0]


def _chapters(archive: Archive, package: str) -> list[str]:
    """The parts that hold the text, in the order of reading, none twice."""
    pages: dict[str, str] = {}  # by id
    spine: dict[str, None] = {}
    contents: set[str] = set()
    folder = posixpath.dirname(package)

    def part(attributes: dict[str, str]) -> str:
        target = unquote(attributes.get("href", "").partition("#")[0])
        return posixpath.normpath(posixpath.join("/", folder, target)).lstrip("/")

    def element(name: str, attributes: dict[str, str]) -> None:
        if name == "item" and attributes.get("media-type") in _PAGES:
            pages[attributes.get("id", "")] = part(attributes)
            if "nav" in attributes.get("properties", "").split():
                contents.add(part(attributes))
        elif name == "itemref":
            spine[attributes.get("idref", "")] = None
        elif name == "reference" and attributes.get("type") == "toc":
            contents.add(part(attributes))
        if len(pages) + len(spine) + len(contents) > _MOST_ITEMS:
            raise NotText(f"lists over {_MOST_ITEMS:,} parts in {package}; save it as plain text and give that")

    archive.read_elements(package, element)
    chapters = dict.fromkeys(pages[page] for page in spine if page in pages and pages[page] not in contents)
    if not chapters:
        raise NotText(f"is a damaged e-book ({package} lists no chapters); get another copy of it")
    return list(chapters)
