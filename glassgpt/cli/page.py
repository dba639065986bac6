"""Facts in two columns, and in a terminal a line that says what is being found out."""

from typing import TextIO

from rich.console import Console

from glassgpt.cli.words import wrapped

COLUMN = 14
"""Where the second column usually begins."""


class Page:
    """Two columns on a stream, the second wrapped; in a terminal, also a line that says what is being done."""

    def __init__(self, stream: TextIO, column: int = COLUMN) -> None:
        self.column = column
        self.console = Console(file=stream, highlight=False, soft_wrap=True)
        self.width = self.console.width if stream.isatty() else 10_000

    def row(self, name: str, value: str) -> None:
        """A line of both columns."""
        self.doing("")
        for line in wrapped(f"  {name:<{self.column - 2}}{value}", self.width, " " * self.column):
            self.console.print(line, markup=False)

    def line(self, text: str = "") -> None:
        """A line over both columns."""
        self.doing("")
        self.console.print(text, markup=False)

    def doing(self, what: str) -> None:
        """What takes time now; the next row takes its place."""
        if self.console.is_terminal and not self.console.is_dumb_terminal:
            self.console.file.write("\r\x1b[2K" + (f"  {what} ..." if what else ""))
            self.console.file.flush()
