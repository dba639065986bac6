"""What the tests of the formats share: a sink that remembers, and documents made by hand."""

import io
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from glassgpt.text.formats import FileFacts, FormatOptions, NotText, read_file

FILES = Path(__file__).parent / "files"
W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
MC = "http://schemas.openxmlformats.org/markup-compatibility/2006"
TEXT = "urn:oasis:names:tc:opendocument:xmlns:text:1.0"
TABLE = "urn:oasis:names:tc:opendocument:xmlns:table:1.0"
OFFICE = "urn:oasis:names:tc:opendocument:xmlns:office:1.0"


@dataclass
class Remembering:
    """A sink that keeps the documents."""

    documents: list[str] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)
    longest: int = 0

    def write(self, text: str) -> None:
        self.pieces.append(text)
        self.longest = max(self.longest, len(text))

    def end_document(self) -> None:
        self.documents.append("".join(self.pieces))
        self.pieces.clear()

    def restart(self) -> None:
        self.documents.clear()
        self.pieces.clear()


@dataclass
class Counting:
    """A sink that keeps nothing."""

    n_characters: int = 0
    longest: int = 0

    def write(self, text: str) -> None:
        self.n_characters += len(text)
        self.longest = max(self.longest, len(text))

    def end_document(self) -> None: ...

    def restart(self) -> None:
        self.n_characters = 0


def read(data: bytes, name: str = "-", **options: str) -> tuple[list[str], FileFacts]:
    sink = Remembering()
    facts = read_file(io.BytesIO(data), name, sink, FormatOptions(**options))
    assert not sink.pieces
    return sink.documents, facts


def text_of(data: bytes, name: str = "-", **options: str) -> str:
    (document,), _ = read(data, name, **options)
    return document


def refusal(data: bytes, name: str = "-", **options: str) -> str:
    """The one line with which the bytes are refused."""
    with pytest.raises(NotText) as refused:
        read(data, name, **options)
    message = str(refused.value)
    assert "\n" not in message
    return message


def zipped(parts: dict[str, str | bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    return packed.getvalue()


def docx(body: str, **parts: str) -> bytes:
    """A Word document around `body`; `parts` are written to word/ and related to it."""
    relations = "".join(f'<Relationship Type="x/{kind}" Target="{kind}.xml"/>' for kind in parts)
    return zipped(
        {"word/document.xml": word_xml("document", f"<w:body>{body}</w:body>")}
        | {"word/_rels/document.xml.rels": f"<Relationships>{relations}</Relationships>"}
        | {f"word/{kind}.xml": word_xml(kind, part) for kind, part in parts.items()}
    )


def word_xml(root: str, inside: str) -> str:
    return f'<w:{root} xmlns:w="{W}" xmlns:mc="{MC}">{inside}</w:{root}>'


def odt(body: str, **parts: str) -> bytes:
    """An OpenDocument text around `body`."""
    content = f'<o:document-content xmlns:o="{OFFICE}" xmlns:text="{TEXT}" xmlns:table="{TABLE}">'
    content += f"<o:body><o:text>{body}</o:text></o:body></o:document-content>"
    return zipped({"mimetype": "application/vnd.oasis.opendocument.text", "content.xml": content} | parts)


def epub(chapters: dict[str, str | bytes], package: str | None = None, **parts: str) -> bytes:
    """An e-book of `chapters`, by file name in the order of reading, the first three letters of which are their id."""
    items = "".join(f'<item id="{n[:3]}" href="{n}" media-type="application/xhtml+xml"/>' for n in chapters)
    spine = "".join(f'<itemref idref="{name[:3]}"/>' for name in chapters)
    described = f"<package><manifest>{items}</manifest><spine>{spine}</spine></package>"
    return zipped(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": '<container><rootfile full-path="OPS/book.opf"/></container>',
            "OPS/book.opf": package or described,
        }
        | {f"OPS/{name}": page for name, page in chapters.items()}
        | {f"META-INF/{name}.xml": part for name, part in parts.items()}
    )
