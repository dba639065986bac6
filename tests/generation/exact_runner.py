"""A small language model without weights, whose scores are exact: the same text has the same scores, bit for bit,
whatever is computed beside it. It scores what its cache really holds, so a wrong cache gives another text.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from glassgpt.config import GPTConfig
from glassgpt.generation.sampling import choose
from glassgpt.generation.sequence import Request, visible_start
from glassgpt.native.spans import Span

BROKEN = 0
"""After this token the scores of a runner with `breaks` are no numbers."""


class ExactRunner:
    """The next token depends on the last one, and to the part `noise` on all that is visible."""

    def __init__(
        self,
        *,
        n_slots: int = 1,
        context_length: int = 12,
        vocab_size: int = 7,
        noise: float = 1.0,
        breaks: bool = False,
    ) -> None:
        self.config = GPTConfig(
            vocab_size=vocab_size, context_length=context_length, embedding_dim=4, n_heads=1, n_layers=1
        )
        self.n_slots = n_slots
        self.noise = noise
        self.breaks = breaks
        self.passes: list[list[Span]] = []
        self.copies: list[tuple[int, int, int]] = []
        self._cached: list[list[int]] = [[] for _ in range(n_slots)]

    @property
    def rows(self) -> list[int]:
        """Of each pass so far."""
        return [sum(len(span.ids) for span in spans) for spans in self.passes]

    def forward(self, spans: Sequence[Span]) -> NDArray[np.float32]:
        assert spans
        assert len({span.slot for span in spans}) == len(spans)
        self.passes.append(list(spans))
        return np.array([scores for span in spans for scores in self._scores_of(span)], np.float32).reshape(
            -1, self.config.vocab_size
        )

    def copy(self, source: int, target: int, length: int) -> None:
        assert source != target
        assert 0 < length <= len(self._cached[source])
        self.copies.append((source, target, length))
        self._cached[target] = self._cached[source][:length]

    def scores(self, visible: Sequence[int]) -> NDArray[np.float32]:
        """Of what follows the visible text, (V,)."""
        if self.breaks and visible[-1] == BROKEN:
            return np.full(self.config.vocab_size, np.nan, np.float32)
        usual = np.random.default_rng(visible[-1]).normal(size=self.config.vocab_size)
        exact = np.random.default_rng(list(visible)).normal(size=self.config.vocab_size)
        return (3 * usual + 3 * self.noise * exact).astype(np.float32)

    def alone(self, request: Request, index: int = 0) -> Iterator[int]:
        """What a request's text must be: every position computed anew for each token."""
        ids = list(request.ids)
        for _ in range(request.max_new_tokens):
            logits = self.scores(ids[visible_start(len(ids), self.config.context_length) :])
            token = choose(logits, request.sampling, request.sequence + index, ids)
            if token == request.stop:
                return
            ids.append(token)
            yield token

    def _scores_of(self, span: Span) -> list[NDArray[np.float32]]:
        held = self._cached[span.slot]
        assert span.ids
        assert 0 <= span.n_logits <= len(span.ids)
        assert span.start <= len(held)
        held[span.start :] = span.ids
        assert len(held) <= self.config.context_length
        return [self.scores(held[: len(held) - n]) for n in reversed(range(span.n_logits))]
