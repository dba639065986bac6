"""OpenDocument texts (.odt): each paragraph a line, cells between tabs, notes behind the text.

Tracked deletions, annotations and forms are left out. White space collapses as ODF 1.3 defines it (part 3, 6.1.2):
runs of it are one space, none at either end of a paragraph, and what shall stay is written as elements.
"""

import re

from glassgpt.text.formats.archives import Archive
from glassgpt.text.formats.interface import NotText, TextSink
from glassgpt.text.formats.xml import split_name

_PREFIXES = {
    "urn:oasis:names:tc:opendocument:xmlns:text:1.0": "text:",
    "urn:oasis:names:tc:opendocument:xmlns:office:1.0": "office:",
    "urn:oasis:names:tc:opendocument:xmlns:table:1.0": "table:",
    "urn:oasis:names:tc:opendocument:xmlns:svg-compatible:1.0": "svg:",
}
_LEFT_OUT = {
    "text:tracked-changes",
    "text:note-citation",
    "text:ruby-text",
    "office:annotation",
    "office:binary-data",
    "office:forms",
    "office:scripts",
    "svg:title",
    "svg:desc",
}
_PARAGRAPHS = ("text:p", "text:h")
_SPACES = re.compile("(?: ?[\t\n\r]|  )[ \t\n\r]*")  # all but a single space, which stays as it is
_MOST_SPACES = 10_000


def read_opendocument(archive: Archive, sink: TextSink) -> None:
    """Write the document in `archive`. Raises NotText where it is damaged or encrypted."""
    if "META-INF/manifest.xml" in archive:
        archive.read_elements("META-INF/manifest.xml", _refuse_encryption)
    body = _Paragraphs(of_notes=False)
    for text in archive.read_xml("content.xml", body):
        sink.write(text)
    if body.has_notes:
        notes = _Paragraphs(of_notes=True)
        notes.gap = body.gap
        for text in archive.read_xml("content.xml", notes):
            sink.write(text)
    sink.write("\n")


def _refuse_encryption(name: str, attributes: dict[str, str]) -> None:
    if name == "encryption-data":
        raise NotText("is an OpenDocument text locked by a password; save it without one")


class _Paragraphs:
    """The text of the paragraphs, either of the body or of the notes in it."""

    def __init__(self, of_notes: bool) -> None:
        self.pieces: list[str] = []
        self.gap = ""
        self.has_notes = False
        self._of_notes = of_notes
        self._n_left_out = 0
        self._n_notes = 0  # notes open: 0 or 1
        self._n_paragraphs = 0  # paragraphs open, one inside another's frame
        self._rows: list[int] = []
        self._line_has_text = False
        self._space = ""  # one that counts only if more text of this line follows

    def start(self, name: str, attributes: dict[str, str]) -> None:
        tag = _short(name)
        if self._n_left_out or tag in _LEFT_OUT:
            self._n_left_out += 1
        elif tag == "text:note":
            self.has_notes = True
            self._n_notes += 1
        elif self._is_read():
            self._begin(tag, attributes)

    def end(self, name: str) -> None:
        if self._n_left_out:
            self._n_left_out -= 1
            return
        tag = _short(name)
        if tag == "text:note":
            self._n_notes -= 1
        elif not self._is_read():
            return
        elif tag in _PARAGRAPHS:
            self._n_paragraphs -= 1
            self.gap, self._space, self._line_has_text = "\n", "", False
        elif tag == "table:table-row":
            self._rows.pop()
            self.gap = "\n"

    def data(self, text: str) -> None:
        if self._n_left_out or not self._n_paragraphs or not self._is_read():
            return
        text = _SPACES.sub(" ", text)
        words = text.strip(" ")
        if text.startswith(" ") and self._line_has_text:
            self._space = " "
        if words:
            self._put(words)
            self._space = " " if text.endswith(" ") else ""

    def _is_read(self) -> bool:
        return self._of_notes == bool(self._n_notes)

    def _begin(self, tag: str, attributes: dict[str, str]) -> None:
        if tag in _PARAGRAPHS:
            if self._line_has_text and not self.gap and self._n_paragraphs:  # a frame inside a paragraph
                self.gap = "\n"
            self._n_paragraphs += 1
            self._space = ""
            self._put("")
        elif tag == "text:s":
            self._put(" " * _count(attributes))
        elif tag == "text:tab":
            self._put("\t")
        elif tag == "text:line-break":
            self._put("\n")
        elif tag == "table:table-row":
            self._rows.append(0)
        elif tag == "table:table-cell" and self._rows:
            if self._rows[-1]:
                self.gap = "\t"
            self._rows[-1] += 1

    def _put(self, text: str) -> None:
        if self.gap or text:
            self.pieces.append(self.gap + self._space + text)
            self._space = ""
        self._line_has_text = bool(text) or (self._line_has_text and not self.gap)
        self.gap = ""


def _count(attributes: dict[str, str]) -> int:
    """How many spaces a text:s stands for."""
    for name, value in attributes.items():
        if _short(name) == "text:c" and value.isascii() and value.isdigit():
            return min(int(value[:9]), _MOST_SPACES)
    return 1


def _short(name: str) -> str:
    namespace, local = split_name(name)
    return _PREFIXES.get(namespace, "?:") + local
