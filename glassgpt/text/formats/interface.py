"""What a reader of a format is given and what it gives back."""

from dataclasses import dataclass
from typing import Literal, Protocol


class TextSink(Protocol):
    """Where the text of a file goes. What a sink raises ends the reading and reaches the caller as it is."""

    def write(self, text: str) -> None:
        """Take more text of the current document, with line ends of any kind."""

    def end_document(self) -> None:
        """End the current document; one without text does not count."""

    def restart(self) -> None:
        """Forget everything written since this file began."""


class Source(Protocol):
    """Bytes that can be read again from their beginning: a file, or a part of one."""

    def read(self, size: int, /) -> bytes: ...

    def seek(self, offset: int, /) -> int: ...


class NotText(Exception):
    """Why bytes cannot be read as text: the rest of a sentence that begins with the file's name."""


@dataclass(frozen=True, kw_only=True)
class FormatOptions:
    """What the user says about the files."""

    encoding: str = "auto"
    """A name that Python knows, such as cp1252; auto: UTF-8, or what the bytes show beyond doubt."""
    invalid_utf8: Literal["refuse", "replace"] = "refuse"
    text_field: str = "text"
    """The field that holds the text in a line of JSON."""


@dataclass(frozen=True)
class FileFacts:
    """What a file turned out to be.

    `format` is text, docx, odt, epub, html or jsonl, with .gz behind it where it was compressed; `n_replaced` counts
    the U+FFFD signs that stand for invalid UTF-8; `detected` says that the encoding was guessed.
    """

    format: str
    encoding: str
    n_replaced: int = 0
    detected: bool = False
