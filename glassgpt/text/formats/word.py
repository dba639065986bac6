"""Word documents (.docx): each paragraph a line, cells between tabs, notes behind the text.

What Word would print is kept once: insertions but not deletions, results of fields but not their instructions, one
of two alternatives. Comments, headers and footers are left out. Standard: ECMA-376.
"""

import posixpath

from glassgpt.text.formats.archives import Archive
from glassgpt.text.formats.interface import TextSink
from glassgpt.text.formats.xml import split_name

_PREFIXES = {
    "http://schemas.openxmlformats.org/wordprocessingml/2006/main": "w:",
    "http://purl.oclc.org/ooxml/wordprocessingml/main": "w:",
    "http://schemas.openxmlformats.org/officeDocument/2006/math": "m:",
    "http://purl.oclc.org/ooxml/officeDocument/math": "m:",
    "http://schemas.openxmlformats.org/markup-compatibility/2006": "mc:",
}
_LEFT_OUT = {"w:del", "w:moveFrom", "w:rt", "mc:Fallback"}
_SIGNS = {"w:tab": "\t", "w:ptab": "\t", "w:br": "\n", "w:cr": "\n", "w:noBreakHyphen": "\u2011"}
_NOTES = ("footnotes", "endnotes")


def read_word(archive: Archive, sink: TextSink) -> None:
    """Write the document in `archive`. Raises NotText where it is damaged."""
    main = _related(archive, "").get("officeDocument", "word/document.xml")
    reader = _Paragraphs()
    for text in archive.read_xml(main, reader):
        sink.write(text)
    related = _related(archive, main)
    for kind in _NOTES:
        if (part := related.get(kind)) and part in archive:
            for text in archive.read_xml(part, reader):
                sink.write(text)
    sink.write(reader.gap)


def _related(archive: Archive, part: str) -> dict[str, str]:
    """Kind -> the part of that kind that belongs to `part`, or to the whole document."""
    folder, name = posixpath.split(part)
    relations = posixpath.join(folder, "_rels", f"{name}.rels")
    if relations not in archive:
        return {}
    parts: dict[str, str] = {}

    def element(name: str, attributes: dict[str, str]) -> None:
        kind = attributes.get("Type", "").rpartition("/")[2]
        if kind in ("officeDocument", *_NOTES):
            target = posixpath.join("/", folder, attributes.get("Target", ""))
            parts[kind] = posixpath.normpath(target).lstrip("/")

    archive.read_elements(relations, element)
    return parts


class _Paragraphs:
    """The text of the paragraphs, through several parts. `gap` is what separates the last one from the next."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.gap = ""
        self._open: list[str] = []
        self._n_left_out = 0  # elements open inside one that is left out, with it
        self._line_has_text = False
        self._mark_is_deleted = False
        self._rows: list[int] = []  # cells so far in each row that is open
        self._note_begins = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        tag = _short(name)
        if self._n_left_out:
            self._n_left_out += 1
        elif tag in _LEFT_OUT or _is_separator(tag, attributes):
            self._mark_is_deleted |= self._open[-2:] == ["w:pPr", "w:rPr"]
            self._n_left_out = 1
        else:
            self._begin(tag)
            self._open.append(tag)

    def end(self, name: str) -> None:
        if self._n_left_out:
            self._n_left_out -= 1
            return
        tag = self._open.pop()
        if tag == "w:p":
            self.gap = "" if self._mark_is_deleted else "\n"
            self._line_has_text = False
            self._mark_is_deleted = False
        elif tag == "w:tr":
            self._rows.pop()
            self.gap = "\n"

    def data(self, text: str) -> None:
        if not self._n_left_out and self._open and self._open[-1] in ("w:t", "m:t"):
            self._put(text.replace("\n", " "))

    def _begin(self, tag: str) -> None:
        if tag == "w:p":
            if self._line_has_text and not self.gap and "w:p" in self._open:  # a box of text inside a paragraph
                self.gap = "\n"
            self._put("")
        elif tag == "w:tr":
            self._rows.append(0)
        elif tag == "w:tc" and self._rows:
            if self._rows[-1]:
                self.gap = "\t"
            self._rows[-1] += 1
        elif tag in ("w:footnote", "w:endnote"):
            self._note_begins = True
        elif tag in _SIGNS and self._open[-1:] == ["w:r"]:  # a w:tab elsewhere is a tab stop
            self._put(_SIGNS[tag])

    def _put(self, text: str) -> None:
        if self._note_begins:  # what stands between a note's number and its text
            text = text.lstrip()
            self._note_begins = not text
        if self.gap or text:
            self.pieces.append(self.gap + text)
        self._line_has_text = bool(text) or (self._line_has_text and not self.gap)
        self.gap = ""


def _short(name: str) -> str:
    namespace, local = split_name(name)
    return _PREFIXES.get(namespace, "?:") + local


def _is_separator(tag: str, attributes: dict[str, str]) -> bool:
    """Whether this is the line above the notes, which the file keeps as a note."""
    return tag in ("w:footnote", "w:endnote") and any(
        split_name(name)[1] == "type" and value != "normal" for name, value in attributes.items()
    )
