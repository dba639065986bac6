"""HTML and XHTML -> the text that a reader of the page sees.

The standard library's parser keeps everything from an unclosed comment, tag or script in memory and reads it again with
each block. This one keeps a few characters: it is always in one of the states below, and each of them can stop and
go on anywhere. It needs no tree, since only few elements change the text.
"""

import codecs
import html
import re
from collections.abc import Callable, Iterable

from glassgpt.text.formats.layout import Layout

PARAGRAPHS = {
    *("address", "article", "aside", "blockquote", "body", "center", "dd", "details", "dialog", "dir", "div", "dl"),
    *("fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hgroup"),
    *("hr", "html", "legend", "main", "menu", "nav", "ol", "p", "section", "summary", "ul"),
}
LINES = {"caption", "dt", "li", "optgroup", "option", "tbody", "tfoot", "thead"}
PREFORMATTED = {"pre", "listing", "xmp"}
LEFT_OUT = {"iframe", "noembed", "noframes", "noscript", "script", "style", "template", "title"}

_CHARSET = re.compile(rb"<meta[^>]{1,500}?charset\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)
_XML_ENCODING = re.compile(rb"\s*<\?xml[^>]{1,200}?encoding\s*=\s*[\"']([\w.:-]+)")
_WEB_NAMES = {  # browsers read the subset's name as the larger encoding
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
}
_WHOLE_TAG = re.compile(  # possessive throughout, so that a tag without an end is looked through once
    r"""<(/?+)([a-zA-Z][^\s/>]{0,40}+)(?:[^>=]++|=\s*+(?:"[^"]*+"|'[^']*+'|[^\s>"'][^\s>]*+|(?=>)))*+>"""
)
_NAME = re.compile(r"</?([a-zA-Z][^\s/>]{0,40})")
_UNQUOTED = re.compile(r"[^\s>]*")
_NOT_SPACE = re.compile(r"\S")
_END_OR_VALUE = re.compile("[>=]")
_LONG_NUMBER = re.compile(r"&#(?:\d{8,}|[xX][0-9a-fA-F]{8,});?")
_OPENING = 10  # characters tell what a "<" begins
_REFERENCE = 40  # characters a reference such as &eacute; has at most

State = Callable[[str, int, bool], int]


def read_html(blocks: Iterable[str], layout: Layout) -> None:
    """Give the text of a page to `layout`. No markup is an error; a browser has none either."""
    page = Page(layout)
    for block in blocks:
        page.feed(block)
    page.feed("", is_last=True)


def declared_encoding(head: bytes) -> str | None:
    """What the beginning of a page says that its encoding is, in Python's name; None where it says nothing usable."""
    found = _XML_ENCODING.match(head) or _CHARSET.search(head)
    if not found:
        return None
    try:
        name = codecs.lookup(found[1].decode("ascii")).name
        "a".encode(name)  # not what turns bytes into bytes
    except (LookupError, ValueError):
        return None
    if name.startswith(("utf-16", "utf-32", "utf-7")):
        return None  # a declaration that could be read as ASCII disproves the first two; the third is an old attack
    return _WEB_NAMES.get(name, name)


class Page:
    """A state, which takes what it can of the text and says how far it came, and the rest of the text."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self.rest = ""  # what waits for more text
        self._state: State = self._text
        self._tag = ""
        self._is_end = False
        self._quote = ""
        self._left_out = ""  # the element whose end is looked for

    def feed(self, text: str, is_last: bool = False) -> None:
        data, at = self.rest + text, 0
        while at < len(data):
            state = self._state
            came_to = state(data, at, is_last)
            if came_to == at and self._state == state:
                break
            at = came_to
        self.rest = data[at:]

    def _text(self, data: str, at: int, is_last: bool) -> int:
        tag = data.find("<", at)
        if tag == at:
            return self._markup(data, at, is_last)
        end = tag if tag > 0 else len(data)
        if tag < 0 and not is_last:  # a reference may have been cut in two
            reference = data.rfind("&", max(at, end - _REFERENCE))
            end = reference if reference >= 0 else end
        if end > at:
            self._layout.text(_without_references(data[at:end]))
        return end

    def _markup(self, data: str, at: int, is_last: bool) -> int:
        tag = _WHOLE_TAG.match(data, at)
        if tag and tag[2].lower() not in LEFT_OUT:  # the common case at once; the states below take the others
            self._tag, self._is_end = tag[2].lower(), bool(tag[1])
            self._end_of_tag(is_empty=data.endswith("/>", at, tag.end()))
            return tag.end()
        if len(data) - at < _OPENING and not is_last:
            return at
        if name := _NAME.match(data, at):
            if name.end() == len(data) and not is_last and len(name[1]) < 41:
                return at
            self._tag, self._is_end, self._state = name[1].lower(), data[at + 1] == "/", self._in_tag
            return name.end()
        if data.startswith("<![CDATA[", at):
            self._state = self._character_data
            return at + 9
        if data.startswith("<!--", at):
            self._state = self._comment
            return at + 2  # <!--> is a comment as well
        if data[at + 1 : at + 2] in ("!", "?", "/"):
            self._state = self._declaration
            return at + 2
        self._layout.text("<")
        return at + 1

    def _in_tag(self, data: str, at: int, is_last: bool) -> int:
        found = _END_OR_VALUE.search(data, at)
        if not found:
            return len(data) - data.endswith("/")
        if found[0] == "=":
            self._state = self._value
        else:
            self._state = self._text
            self._end_of_tag(is_empty=data.endswith("/", at, found.start()))
        return found.end()

    def _value(self, data: str, at: int, is_last: bool) -> int:
        found = _NOT_SPACE.search(data, at)
        if not found:
            return len(data)
        if found[0] in "\"'":
            self._quote, self._state = found[0], self._quoted
            return found.end()
        self._state = self._unquoted
        return found.start()

    def _quoted(self, data: str, at: int, is_last: bool) -> int:
        return self._skip_to(self._quote, data, at, self._in_tag)

    def _unquoted(self, data: str, at: int, is_last: bool) -> int:
        found = _UNQUOTED.match(data, at)
        end = found.end() if found else at
        if end < len(data):
            self._state = self._in_tag
        return end

    def _comment(self, data: str, at: int, is_last: bool) -> int:
        return self._skip_to("-->", data, at, self._text)

    def _declaration(self, data: str, at: int, is_last: bool) -> int:
        return self._skip_to(">", data, at, self._text)

    def _character_data(self, data: str, at: int, is_last: bool) -> int:
        end = data.find("]]>", at)
        upto = end if end >= 0 else len(data) - (0 if is_last else 2)
        if upto > at:
            self._layout.text(data[at:upto])
        if end >= 0:
            self._state = self._text
            return end + 3
        return max(at, upto)

    def _without_text(self, data: str, at: int, is_last: bool) -> int:
        found = re.compile(f"</{re.escape(self._left_out)}(?=[\\s/>])", re.IGNORECASE).search(data, at)
        if found:
            self._state = self._text
            return found.start()
        return max(at, len(data) - len(self._left_out) - 3)

    def _plain(self, data: str, at: int, is_last: bool) -> int:
        self._layout.text(data[at:])
        return len(data)

    def _skip_to(self, mark: str, data: str, at: int, then: State) -> int:
        end = data.find(mark, at)
        if end < 0:
            return max(at, len(data) - len(mark) + 1)
        self._state = then
        return end + len(mark)

    def _end_of_tag(self, is_empty: bool) -> None:
        layout, tag = self._layout, self._tag
        if tag in LEFT_OUT:
            if not (self._is_end or is_empty):
                self._left_out, self._state = tag, self._without_text
        elif tag == "plaintext" and not self._is_end:
            layout.begin_preformatted()
            self._state = self._plain
        elif tag in PARAGRAPHS:
            layout.separate(2)
        elif tag in LINES:
            layout.separate(1)
        elif tag == "br":
            layout.line_break()
        elif tag in PREFORMATTED and not is_empty:
            layout.end_preformatted() if self._is_end else layout.begin_preformatted()
        elif tag == "table":
            layout.end_row()
            layout.separate(2)
        elif tag == "tr":
            layout.end_row() if self._is_end else layout.begin_row()
        elif tag in ("td", "th") and not self._is_end:
            layout.begin_cell()


def _without_references(text: str) -> str:
    """&eacute; and &#233; as é. A number that is too large for a character would be too large for Python, too."""
    return html.unescape(_LONG_NUMBER.sub("\ufffd", text)) if "&" in text else text
