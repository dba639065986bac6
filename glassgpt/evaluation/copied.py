"""Whose sentence is it? How much of what a model writes stands in its training text, word for word.

A passage counts as copied where all of it stands in the text in one piece. Short ones do by chance or because the
language says it so; the longer a passage, the more it is the author's. So the share is given for several lengths, and
what a person wrote (the validation text) can be measured the same way, to compare (Carlini et al. 2021, "Extracting
training data from large language models", counts copies of 50 tokens; McCoy et al. 2023, "How much do language models
copy from their training data?", compares with held-out text).

The text may be large, so it is read once, block by block. Every window of `LENGTHS[0]` characters gets a hash, a
polynomial modulo 2^64 (Karp & Rabin 1987), all windows of a block at a time; where a table of bits knows the hash, the
passage itself is compared.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

LENGTHS = (25, 50, 100)
"""Characters of passages that are counted. A line of print has 50 to 70."""
SHOWN, AROUND = 5, 60
"""Copies that are shown, and characters of their source before and after each."""
LONGEST = 4096
"""Characters of a copy that are told apart; a longer one counts as several."""
TRIED = 1000
"""Places of the text at which one window of the output is looked at, at most: a line of dashes is everywhere."""
BASE = np.uint64(0x9E3779B97F4A7C15)
"""Odd, so that it has an inverse modulo 2^64."""
TABLE = 22
"""Bits of a hash that the table is asked with."""


@dataclass(frozen=True)
class Copy:
    """A passage of the output that stands in the training text."""

    text: str
    output: int
    """Which of the outputs it is of."""
    start: int
    """Its first character there."""
    source: int
    """The first character of its source, counted from the beginning of the training text."""
    before: str
    after: str
    """What stands around the source."""


@dataclass(frozen=True)
class Copied:
    """How much of some outputs was copied."""

    n_characters: int
    shares: dict[int, float]
    """Of the characters that lie in a copied passage, by the least length of one: those of LENGTHS."""
    passages: list[tuple[int, int, int]]
    """All of at least LENGTHS[0] characters, overlapping ones as one: of which output, first character and end."""
    longest: list[Copy]
    """Different ones, the longest first."""
    n_searched: int
    """Characters of the training text that were looked at."""


def copied(outputs: Sequence[str], blocks: Iterable[str], go_on: Callable[[], bool] = lambda: True) -> Copied:
    """How much of `outputs` stands in the text that `blocks` are, one after the other.

    `go_on` is asked after each block whether there is time for another.
    """
    search = _Search(outputs)
    for block in blocks:
        search.read(block)
        if not go_on():
            break
    return search.found()


class _Search:
    """One pass over the text. All outputs stand in one string; a window over two of them is none."""

    def __init__(self, outputs: Sequence[str]) -> None:
        least = LENGTHS[0]
        self.ends = np.cumsum([len(output) for output in outputs], dtype=np.int64)
        self.text = "".join(outputs)
        self.lengths = np.zeros(len(self.text), np.int64)  # of the longest copy that begins at each character
        self.sources: dict[int, Copy] = {}
        self.windows: dict[str, list[int]] = {}
        for start in range(len(self.text) - least + 1):
            if start + least <= self.end_of(start):
                self.windows.setdefault(self.text[start : start + least], []).append(start)
        self.times: dict[str, int] = dict.fromkeys(self.windows, 0)
        self.known = np.zeros(1 << TABLE, bool)
        hashes = _hashes(self.text)
        self.known[hashes[[starts[0] for starts in self.windows.values()]] >> np.uint64(64 - TABLE)] = True
        self.before, self.n_read = "", 0

    def end_of(self, start: int) -> int:
        """Where the output ends that a character is of."""
        return int(self.ends[np.searchsorted(self.ends, start, side="right")])

    def read(self, block: str) -> None:
        """Look for windows in the next block, and in those that began in the one before."""
        text, first = self.before + block, self.n_read - len(self.before)
        reached: dict[int, int] = {}  # by how far source and output are apart: the end of the copy that is known
        maybe = np.flatnonzero(self.known[_hashes(text) >> np.uint64(64 - TABLE)])
        for place in maybe.tolist():
            window = text[place : place + LENGTHS[0]]
            if window not in self.windows or self.times[window] >= TRIED:
                continue
            self.times[window] += 1
            for start in self.windows[window]:
                best, end = int(self.lengths[start]), self.end_of(start)
                if reached.get(place - start, -1) > place or start + best >= end:
                    continue
                if text[place + best : place + best + 1] != self.text[start + best]:
                    continue  # shorter than what is known
                length = _common(text, place, self.text, start, min(end - start, LONGEST))
                reached[place - start] = place + length
                if length > best:
                    self.lengths[start] = length
                    self.sources[start] = self._copy(text, place, first, start, length)
        self.before = text[-(LONGEST + AROUND) :]
        self.n_read += len(block)

    def _copy(self, text: str, place: int, first: int, start: int, length: int) -> Copy:
        output = int(np.searchsorted(self.ends, start, side="right"))
        end = place + length
        return Copy(
            text=text[place:end],
            output=output,
            start=start - int(self.ends[output - 1] if output else 0),
            source=first + place,
            before=text[max(0, place - AROUND) : place],
            after=text[end : end + AROUND],
        )

    def found(self) -> Copied:
        shares = {n: int(np.count_nonzero(self._copied(n))) / max(1, len(self.text)) for n in LENGTHS}
        return Copied(len(self.text), shares, self._passages(), self._longest(), self.n_read)

    def _copied(self, least: int) -> np.ndarray:
        """Which characters lie in a copied passage of at least so many."""
        starts = np.flatnonzero(self.lengths >= least)
        change = np.zeros(len(self.text) + 1, np.int64)  # one more copy from here, one less from there
        np.add.at(change, starts, 1)
        np.add.at(change, starts + self.lengths[starts], -1)
        return np.cumsum(change[:-1]) > 0

    def _passages(self) -> list[tuple[int, int, int]]:
        found: list[tuple[int, int, int]] = []
        first = 0
        for output, last in enumerate(self.ends.tolist()):
            inside = np.concatenate([[False], self._copied(LENGTHS[0])[first:last], [False]])
            edges = np.flatnonzero(inside[1:] != inside[:-1]).tolist()
            found += [(output, start, end) for start, end in zip(edges[::2], edges[1::2], strict=True)]
            first = last
        return found

    def _longest(self) -> list[Copy]:
        chosen: list[Copy] = []
        for start in sorted(self.sources, key=lambda start: (-self.lengths[start], start)):
            copy = self.sources[start]
            if not any(copy.text in other.text for other in chosen):
                chosen.append(copy)
            if len(chosen) == SHOWN:
                break
        return chosen


def _hashes(text: str) -> np.ndarray:
    """A hash of each window of LENGTHS[0] characters: sum of c_k BASE^(n - k) over the window, modulo 2^64."""
    least = LENGTHS[0]
    codes = np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), np.uint32).astype(np.uint64)
    if len(codes) < least:
        return np.empty(0, np.uint64)
    total = np.zeros(len(codes) - least + 1, np.uint64)
    for offset in range(least):  # wraps around as it should
        total = total * BASE + codes[offset : offset + len(total)]
    return total * BASE


def _common(one: str, at: int, other: str, start: int, most: int) -> int:
    """How many characters two texts have in common from two places on, up to `most`."""
    most = min(most, len(one) - at, len(other) - start)
    low, high = 0, most  # by halves: equal up to low, not beyond high
    while low < high:
        middle = (low + high + 1) // 2
        if one[at + low : at + middle] == other[start + low : start + middle]:
            low = middle
        else:
            high = middle - 1
    return low
