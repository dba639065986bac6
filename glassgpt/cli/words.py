"""How the command line writes numbers, sizes, times, and what a model wrote."""

import os
import re
import shlex
import time
import unicodedata

JOINERS = "\u200c\u200d"
"""Signs without a form of their own that belong to Persian words and to emoji."""


def printable(text: str) -> str:
    """What a model wrote, without what could do anything to a terminal: shown as middle dots.

    That is control characters, and invisible ones, which may turn the direction of a line.
    """
    kept = (sign in "\n\t" + JOINERS or unicodedata.category(sign) not in ("Cc", "Cf") for sign in text)
    return "".join(sign if keep else "·" for sign, keep in zip(text, kept, strict=True))


def command(*arguments: object) -> str:
    """A command line of ours to be typed, quoted as this system's shells want it."""
    words = ["glassgpt", *map(str, arguments)]
    if os.name == "nt":
        return " ".join(f'"{word}"' if not word or re.search(r"[\s&|<>^]", word) else word for word in words)
    return shlex.join(words)


class WordWrap:
    """Breaks text that comes piece by piece between words, at the width of a terminal.

    The last word is held back until it has ended. One that is wider than a line is left to the terminal.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self._column = 0
        self._word = ""

    def feed(self, text: str) -> str:
        """Take the next piece; return what can be shown."""
        shown = ""
        for part in re.split(r"(\s)", text):
            if not part.isspace():
                self._word += part
                continue
            shown += self.flush() + part
            self._column = 0 if part == "\n" else self._column + 1
        return shown

    def flush(self) -> str:
        """What was held back."""
        from rich.cells import cell_len

        word, self._word = self._word, ""
        breaks = word and self._column and self._column + cell_len(word) > self.width
        self._column = cell_len(word) + (0 if breaks else self._column)
        return "\n" + word if breaks else word


def wrapped(text: str, width: int, indent: str = "") -> list[str]:
    """`text` in lines of at most `width` columns, broken between words; all lines but the first are indented.

    A word that is wider than a line, as Chinese sentences are, is cut.
    """
    from rich.cells import cell_len, chop_cells

    lines: list[str] = []
    line = ""
    for word in re.findall(r"\s*\S+", text.expandtabs()):
        if cell_len(line + word) <= width:
            line += word
            continue
        if line:
            lines.append(line)
            word = word.lstrip()
        before = indent if lines else ""
        *cut, line = (before + part for part in chop_cells(word, max(2, width - len(before))))
        lines += cut
    return [*lines, line]


def count(number: float) -> str:
    """812, 8,120, 812 k, 8.12 M, 1.64 B."""
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size * (100 if unit == "k" else 1):
            return f"{number / size:.3g} {unit}"
    return f"{number:,.0f}"


def number(n: int, what: str) -> str:
    """1 thread, 2 threads."""
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


def size(n_bytes: float) -> str:
    """812 B, 8.1 kB, 812 MB, 1.6 GB, 3.4 TB: powers of 1,000, as disks and memory are sold."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= 0.9995 * scale:  # what would be written with four digits
            return f"{n_bytes / scale:.3g} {unit}"
    return f"{n_bytes:.0f} B"


def duration(seconds: float) -> str:
    """0.8 s, 42 s, 4 min 20 s, 3 h 05 min, 2 d 3 h, 12 years."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    if whole < 1000 * 86400:
        return f"{whole // 86400} d {whole % 86400 // 3600} h"
    return f"{count(seconds / 86400 / 365.25)} years"


def moment(seconds: float) -> str:
    """0.46 ms, 12.3 ms, 460 ms; from a second on as `duration` says it."""
    if seconds >= 0.9995:
        return duration(seconds)
    milliseconds = 1000 * seconds
    return f"{milliseconds:.{2 if milliseconds < 1 else 1 if milliseconds < 100 else 0}f} ms"


def clock_time(seconds_from_now: float) -> str:
    """When that is: 16:34, with the day where it is not today."""
    now, then = time.localtime(), time.localtime(time.time() + seconds_from_now)
    return time.strftime("%H:%M" if now.tm_yday == then.tm_yday else "%a %d %b, %H:%M", then)
