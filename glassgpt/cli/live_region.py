"""Lines at the bottom of a terminal that are drawn over and over, while what is printed scrolls above them.

The terminal may be resized at any time, and may take another width for an emoji than we do. So no line is ever left to
wrap, and after a change of width the rows are counted as terminals lay them out anew.
"""

import contextlib
import math
import sys
import threading
from collections.abc import Callable, Iterable, Iterator

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook
from rich.control import Control
from rich.file_proxy import FileProxy
from rich.segment import ControlType, Segment
from rich.text import Text

INTERVAL = 0.25
"""Seconds between two drawings."""
NO_WRAP, WRAP, ERASE_BELOW = "\x1b[?7l", "\x1b[?7h", "\x1b[J"


class LiveRegion(RenderHook):
    """`draw(width, height)` gives the lines for a terminal of that size; they are fewer than it has rows."""

    def __init__(self, console: Console, draw: Callable[[int, int], list[Text]]) -> None:
        self.console, self.draw = console, draw
        self.lock = threading.RLock()
        self._drawn: list[int] = []  # the width of each line on the screen
        self._stopped = threading.Event()
        self._outputs = contextlib.ExitStack()

    def start(self) -> None:
        """Draw from now on, four times a second; what anybody else prints appears above."""
        for stream, redirect in (
            (sys.stdout, contextlib.redirect_stdout),
            (sys.stderr, contextlib.redirect_stderr),
        ):
            if stream.isatty():
                self._outputs.enter_context(redirect(FileProxy(self.console, stream)))
        self.console.show_cursor(False)
        self.console.push_render_hook(self)
        threading.Thread(target=self._keep_drawing, daemon=True).start()
        self.refresh()

    def stop(self) -> None:
        """Take the lines away."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        with self.lock:
            self.draw = lambda width, height: []
            self.refresh()
            self.console.pop_render_hook()
            self.console.show_cursor(True)
            self._outputs.close()

    def refresh(self) -> None:
        """Draw now."""
        self.print(Control())

    def print(self, what: ConsoleRenderable) -> None:
        """Print something that stays, above the lines."""
        with self.lock:
            self.console.print(what)

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """Whatever is printed goes between the old lines' removal and the new lines."""
        return [_Raw(self._erasing()), *renderables, _Frame(self._lines())]

    def _lines(self) -> Iterator[Text]:
        width, height = self.console.size
        self._drawn = []
        for line in self.draw(width, height)[: height - 1]:
            line.truncate(width)
            self._drawn.append(line.cell_len)
            yield line

    def _erasing(self) -> str:
        width = self.console.width
        rows = sum(max(1, math.ceil(n / width)) for n in self._drawn)
        return ("\r" + (f"\x1b[{rows - 1}A" if rows > 1 else "") + ERASE_BELOW) if rows else ""

    def _keep_drawing(self) -> None:
        while not self._stopped.wait(INTERVAL):
            with self.lock:
                if not self._stopped.is_set():
                    self.refresh()


class _Raw:
    """Codes for the terminal."""

    def __init__(self, codes: str) -> None:
        self.codes = codes

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        yield Segment(self.codes, None, [(ControlType.CARRIAGE_RETURN,)])


class _Frame:
    """Lines without a line break after the last."""

    def __init__(self, lines: Iterable[Text]) -> None:
        self.lines = lines

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        yield from _Raw(NO_WRAP).__rich_console__(console, options)
        for number, line in enumerate(self.lines):
            if number:
                yield Segment.line()
            yield from line.render(console, end="")
        yield from _Raw(WRAP).__rich_console__(console, options)
