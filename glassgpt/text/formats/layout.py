"""The text of a page as it would be seen: words, lines and paragraphs."""

import re
from collections.abc import Callable

_SPACES = re.compile("(?: ?[\t\n\f\r]|  )[ \t\n\f\r]*")  # all but a single space, which stays as it is
_INDENT = " \xa0"  # pages indent paragraphs, and keep empty ones open, with non-breaking spaces
_MOST = 1000  # line breaks or empty cells in a row; more are left out


class Layout:
    """Collapses white space and writes what separates two pieces of text only when the second one comes."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._gap = ""  # what separates the text written so far from the next
        self._has_text = False
        self._n_preformatted = 0
        self._drops_line_end = False
        self._n_cells = 0  # in this row, so far
        self._in_cell = False
        self._cell_gap: str | None = None  # the gap at the beginning of a cell that is still empty

    def text(self, text: str) -> None:
        """More text of the current line."""
        if self._n_preformatted:
            self._preformatted(text)
            return
        text = _SPACES.sub(" ", text)
        if not self._has_text or self._gap.strip(" "):
            text = text.lstrip(_INDENT)
        words = text.strip(" ")
        if text.startswith(" ") and not self._gap:
            self._gap = " "
        if words:
            self._put(words)
            self._gap = " " if text.endswith(" ") else ""

    def line_break(self) -> None:
        """The next text begins a line, another one for each call."""
        self._gap = "\n" * min(_MOST, self._gap.count("\n") + 1)

    def separate(self, n_line_ends: int) -> None:
        """The next text is a new line (1) or a new paragraph, a blank line before it (2)."""
        if self._cell_gap is None:
            self._gap = "\n" * max(self._gap.count("\n"), n_line_ends)

    def begin_row(self) -> None:
        """The next cell begins a line."""
        self.end_row()
        self._n_cells = 0

    def begin_cell(self) -> None:
        """The next text is a tab behind the last cell's."""
        self._end_cell()
        if self._n_cells:
            self._gap = (self._gap + "\t")[-_MOST:]
        self._n_cells += 1
        self._in_cell = True
        self._cell_gap = self._gap

    def end_row(self) -> None:
        """The next text is not part of this row."""
        self._end_cell()
        self.separate(1)

    def _end_cell(self) -> None:
        if self._in_cell:  # a paragraph that ends with its cell does not end the line
            self._gap = self._cell_gap or ""
        self._in_cell, self._cell_gap = False, None

    def begin_preformatted(self) -> None:
        """White space counts from here on."""
        self.separate(2)
        self._n_preformatted += 1
        self._drops_line_end = True

    def end_preformatted(self) -> None:
        """White space collapses again."""
        self._n_preformatted = max(0, self._n_preformatted - 1)
        self.separate(2)

    def end(self) -> None:
        """The page ends."""
        if self._has_text:
            self._write("\n")

    def _preformatted(self, text: str) -> None:
        if self._drops_line_end and text:  # the one right behind <pre> does not count
            text = text.removeprefix("\n")
            self._drops_line_end = False
        lines = text.rstrip("\n")
        if lines:
            begins = lines.lstrip("\n")
            self._gap += "\n" * min(_MOST, len(lines) - len(begins))
            self._put(begins)
            self._gap = ""
        self._gap = (self._gap + "\n" * (len(text) - len(lines)))[:_MOST]

    def _put(self, text: str) -> None:
        self._write((self._gap if self._has_text or "\t" in self._gap else "") + text)
        self._has_text = True
        self._cell_gap = None
