"""One runner for texts that are written by turns, each from an iterator of its own."""

import threading
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from glassgpt.config import GPTConfig
from glassgpt.generation.runner import Runner
from glassgpt.native.spans import Span

MOST_ROWS = 512
"""Tokens that are computed again in one forward pass."""


class SharedRunner:
    """Slot 0 of a runner, lent to one text after the other.

    A text that finds another one's tokens in the slot keeps what they begin with in common and computes the rest of its
    own again: two texts may be written in turns, and the next turn of a conversation goes on where the last one ended.
    """

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.one: Callable[[int, int, int], NDArray[np.float32]] | None = getattr(runner, "next", None)
        """The native decoder's call for a single token."""
        self._lock = threading.Lock()
        self._held: list[int] = []
        """The tokens in the slot; the list of the text that wrote them."""

    def lend(self) -> Runner:
        """A runner of one slot, for one text."""
        return _Lent(self)

    def forward(self, span: Span, text: list[int]) -> NDArray[np.float32]:
        """The scores that a span wants; `text` is what its text has given before, and is brought up to date."""
        with self._lock:
            held = self._held
            self._held = list[int]()  # until all is well, nobody's
            del text[span.start :]
            text += span.ids
            if held is not text:
                start = _n_common(held, text, len(text) - max(1, span.n_logits))
                while len(text) - start > max(MOST_ROWS, len(span.ids)):
                    self.runner.forward((Span(0, start, text[start : start + MOST_ROWS], 0),))
                    start += MOST_ROWS
                span = Span(0, start, text[start:], span.n_logits)
            logits = self.runner.forward((span,))
            self._held = text
            return logits

    def next(self, start: int, token: int, text: list[int]) -> NDArray[np.float32]:
        """The scores (V,) after one more token of `text`, by `one` where the slot holds the text."""
        with self._lock:
            if self.one and self._held is text:
                self._held = list[int]()
                del text[start:]
                text.append(token)
                logits = self.one(0, start, token).copy()  # another text's would overwrite them
                self._held = text
                return logits
        return self.forward(Span(0, start, [token]), text)[0]


class _Lent:
    """What one text sees: a runner of which it is the only user."""

    n_slots = 1

    def __init__(self, shared: SharedRunner) -> None:
        self._shared = shared
        self._text: list[int] = []
        if shared.one:
            self.next = self._next

    @property
    def config(self) -> GPTConfig:
        """The model's."""
        return self._shared.runner.config

    def forward(self, spans: Sequence[Span]) -> NDArray[np.float32]:
        """See `Runner`."""
        (span,) = spans
        return self._shared.forward(span, self._text)

    def copy(self, source: int, target: int, length: int) -> None:
        """There is one slot only."""

    def _next(self, slot: int, start: int, token: int) -> NDArray[np.float32]:
        return self._shared.next(start, token, self._text)


def _n_common(one: list[int], other: list[int], most: int) -> int:
    """How many tokens both begin with, `most` at most."""
    pairs = zip(one, other)
    return min(most, next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other))))
