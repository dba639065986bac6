"""One text that is being written: its tokens, what is cached of them, and when it ends."""

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from glassgpt.config import GPTConfig
from glassgpt.generation.sampling import Sampling, choose
from glassgpt.generation.speculation import DraftCost, NgramDrafts
from glassgpt.native.spans import Span
from glassgpt.settings import InputError, shown

Step = tuple[int, NDArray[np.float32]]
"""A new token, and the scores (V,) that the model gave to all."""

Finish = Literal["length", "stop", "cancelled", "failed"]
"""Why a text ended: max_new_tokens were written, the model chose the stop token, somebody cancelled it, or its scores
were no numbers."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """A prompt, and how it is to be continued."""

    ids: Sequence[int]
    max_new_tokens: int
    sampling: Sampling
    stop: int | None = None
    """The token that ends the text; it is not part of it."""
    n: int = 1
    """How many texts continue the prompt."""
    sequence: int = 0
    """Number of the first of them for the sampler; the others follow."""
    speculate: bool = True
    """Whether to look for drafts; the text is the same."""


def visible_start(length: int, context_length: int) -> int:
    """Where the window starts through which the model sees a text of `length` tokens: text[start:length].

    Up to context_length it sees all. Then the window moves on by a quarter of the context at once, so that it
    always holds more than three quarters: a window that moved with every token would give every token another
    position each time, and nothing that was computed before could be kept.
    """
    overflow = max(0, length - context_length)
    step = max(1, context_length // 4)
    return -(-overflow // step) * step


def check_prompt(config: GPTConfig, ids: Sequence[int], max_new_tokens: int) -> None:
    """Raise InputError for a prompt that this model cannot continue."""
    if not len(ids):
        raise InputError("the prompt has no tokens, but needs at least one: begin with the end-of-text token")
    if len(ids) > config.context_length:
        raise InputError(
            f"the prompt has {len(ids)} tokens, but the model's context_length is {config.context_length}: "
            f"leave out the first {len(ids) - config.context_length}, or take a model with a longer context"
        )
    for token in ids:
        if not hasattr(token, "__index__"):
            raise InputError(f"{token!r} in the prompt is no token: give whole numbers, the ids of tokens")
    if min(ids) < 0 or max(ids) >= config.vocab_size:
        unknown = next(token for token in ids if not 0 <= token < config.vocab_size)
        raise InputError(
            f"token {unknown} is not in the model's vocabulary of {config.vocab_size}: use its own tokenizer"
        )
    if not hasattr(max_new_tokens, "__index__"):
        raise InputError(f"max_new_tokens is {shown(max_new_tokens)}, but must be a whole number")
    if max_new_tokens < 1:
        raise InputError(f"max_new_tokens is {max_new_tokens}, but must be at least 1")


class TokenSequence:
    """A text of a request, from its prompt to its end.

    The model sees ids[start:], and of these ids[start:kept] are cached in `slot`.
    """

    def __init__(self, config: GPTConfig, request: Request, number: int) -> None:
        self.request = request
        self.number = number
        """Its number for the sampler."""
        self.ids = list(map(operator.index, request.ids))
        self.n_prompt = len(self.ids)
        self.start = self.kept = 0
        self.slot = 0
        self.finished: Finish | None = None
        self.error: InputError | None = None
        """What was wrong, where it failed."""
        self._context_length = config.context_length
        self._end = self.n_prompt + request.max_new_tokens
        self._drafts = NgramDrafts(self.ids) if request.speculate else None

    @property
    def written(self) -> list[int]:
        """The new tokens."""
        return self.ids[self.n_prompt :]

    @property
    def n_pending(self) -> int:
        """Tokens to compute before the next one can be chosen; at least 1."""
        return len(self.ids) - self.kept

    def move_window(self) -> None:
        """Where the text has outgrown the context, see its later part: nothing of that is cached yet."""
        if len(self.ids) - self.start > self._context_length:
            self.start = self.kept = visible_start(len(self.ids), self._context_length)

    def draft(self, n_most: int, cost: DraftCost) -> list[int]:
        """A guess at the next tokens, none beyond the window or the text's end."""
        if self._drafts is None:
            return []
        room = min(self.start + self._context_length, self._end - 1) - len(self.ids)
        return self._drafts.propose(min(n_most, room), cost)

    def span(self, n_rows: int, draft: list[int]) -> Span:
        """The next `n_rows` pending tokens and the draft, for a pass that scores what follows the last pending one."""
        end = self.kept + n_rows
        n_logits = 1 + len(draft) if end == len(self.ids) else 0
        return Span(self.slot, self.kept - self.start, self.ids[self.kept : end] + draft, n_logits)

    def take(self, n_rows: int, logits: Iterable[NDArray[np.float32]], draft: list[int]) -> None:
        """Go on with what the pass over `span(n_rows, draft)` gave: one token, and one for each that the draft met.

        Raises InputError where the scores are no numbers.
        """
        ids, length = self.ids, len(self.ids)
        if self.kept + n_rows < length:
            self.kept += n_rows
            return
        self.kept = length
        request = self.request
        for row, scores in enumerate(logits):
            token = choose(scores, request.sampling, self.number, ids)
            if token == request.stop:
                self.finished = "stop"
                return
            self.kept = len(ids)  # the token before this one stood in the text or in the draft
            ids.append(token)
            if len(ids) >= self._end:
                self.finished = "length"
                return
            if row == len(draft) or token != draft[row]:
                return
