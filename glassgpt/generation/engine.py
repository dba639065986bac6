"""Many texts at once on one model: requests come at any time, and each forward pass takes all of them a token on.

The engine has no thread and no clock: it does what `step` is called for, and the same calls give the same passes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glassgpt.generation.runner import Runner
from glassgpt.generation.scheduler import Scheduler
from glassgpt.generation.sequence import Finish, Request, TokenSequence, check_prompt
from glassgpt.generation.speculation import guessed_cost
from glassgpt.settings import InputError, shown


@dataclass(frozen=True, eq=False)
class Event:
    """What a step brought to one text."""

    sequence: TokenSequence
    ids: list[int]
    """The new tokens."""
    logits: NDArray[np.float32]
    """The scores that each of them was chosen from, (len(ids), V)."""
    finished: Finish | None
    """Why this is the text's last event; None: it goes on."""


class Engine:
    """Writes what is asked for on `runner`, as many texts at a time as it has slots; the others wait in order.

    Each text is the one that `generate` writes for it alone. `max_rows` bounds the rows of a forward pass, and so how
    long a long prompt can hold up those that are being written: left out, 256, or n_slots where that is more. For
    `least_shared` and `row_cost` see `Scheduler`; the cost is guessed from the model's size if it is left out.
    """

    def __init__(
        self,
        runner: Runner,
        *,
        max_rows: int | None = None,
        least_shared: int = 16,
        row_cost: float | None = None,
    ) -> None:
        if runner.n_slots < 1:
            raise InputError(f"the runner has {runner.n_slots} slots, but needs at least 1 to write in")
        max_rows = max(256, runner.n_slots) if max_rows is None else max_rows
        if max_rows < runner.n_slots:
            raise InputError(
                f"max_rows is {max_rows}, but must be at least {runner.n_slots}, the number of slots: each text that "
                "is being written needs a row in every forward pass"
            )
        self._runner = runner
        self._scheduler = Scheduler(
            runner.n_slots,
            runner.copy,
            max_rows=max_rows,
            least_shared=least_shared,
            row_cost=guessed_cost(runner.config).row if row_cost is None else row_cost,
        )
        self._cancelled: list[TokenSequence] = []

    @property
    def n_writing(self) -> int:
        """Texts that have a slot."""
        return len(self._scheduler.busy)

    @property
    def n_waiting(self) -> int:
        """Texts that wait for a slot."""
        return len(self._scheduler.waiting)

    @property
    def idle(self) -> bool:
        """Whether a step would bring nothing."""
        return not (self.n_writing or self.n_waiting or self._cancelled)

    def check(self, request: Request) -> None:
        """Raise InputError for what cannot be written."""
        check_prompt(self._runner.config, request.ids, request.max_new_tokens)
        if request.n < 1:
            raise InputError(f"n is {request.n}, but must be at least 1: the number of texts to write")
        if not 0 <= request.sequence <= 2**63 - request.n:
            raise InputError(f"sequence is {request.sequence}, but must be from 0, and with n below 2^63")

    def submit(self, request: Request) -> list[TokenSequence]:
        """Put a request's n texts in the queue; they are what is returned, one for each, and what `step` reports on.

        `take` and `cancel` want one of them. Raises InputError, with nothing done, for one that cannot be written.
        """
        self.check(request)
        sequences = [
            TokenSequence(self._runner.config, request, request.sequence + index) for index in range(request.n)
        ]
        for sequence in sequences:
            self._scheduler.add(sequence)
        return sequences

    def cancel(self, sequence: TokenSequence) -> None:
        """Write no more of this text, one of those that `submit` gave, and free its slot at once.

        The next step reports it. It may have ended before. Raises InputError for what is no text of an engine.
        """
        if not isinstance(sequence, TokenSequence):
            raise InputError(f"{shown(sequence)} cannot be cancelled: give one of the texts that submit returned")
        if sequence.finished is None:
            sequence.finished = "cancelled"
            self._scheduler.remove(sequence)
            self._cancelled.append(sequence)

    def step(self) -> list[Event]:
        """One forward pass over what the scheduler chose, and what came of it, also of cancelled texts.

        Every text has one event that says why it finished. If the runner raises, nothing is lost, and the next step
        tries again.
        """
        parts = self._scheduler.plan()
        spans = [part.span() for part in parts]
        logits = self._runner.forward(spans) if spans else np.empty((0, 0), np.float32)
        nothing = logits[:0]
        events = [Event(sequence, [], nothing, sequence.finished) for sequence in self._cancelled]
        self._cancelled = []
        end = 0
        for part, span in zip(parts, spans):
            start, end = end, end + span.n_logits
            sequence, length = part.sequence, len(part.sequence.ids)
            try:
                sequence.take(part.n_rows, logits[start:end], part.draft)
            except InputError as error:  # its scores are no numbers; those of the others may be
                sequence.finished, sequence.error = "failed", error
            new = sequence.ids[length:]
            if sequence.finished:
                self._scheduler.remove(sequence)
            if new or sequence.finished:
                events.append(Event(sequence, new, logits[start : start + len(new)], sequence.finished))
        return events

    def run(self, requests: Sequence[Request]) -> list[TokenSequence]:
        """Write all of these to their ends: the n texts of the first, of the second, and so on.

        Raises InputError, with nothing done, where one cannot be written.
        """
        for request in requests:
            self.check(request)
        sequences = [sequence for request in requests for sequence in self.submit(request)]
        while any(sequence.finished is None for sequence in sequences):
            self.step()
        return sequences

    def stream(self, request: Request) -> Iterator[int]:
        """The tokens of one text as they come, while others are written beside it; it is cancelled if nobody waits for
        its end.

        Raises InputError before the first token for a request that cannot be written or wants several texts, and
        later where the scores are no numbers.
        """
        self.check(request)
        if request.n != 1:
            raise InputError(f"n is {request.n}, but a stream is of one text: submit the request and step")
        return self._submitted(request)

    def take(self, sequence: TokenSequence) -> Iterator[int]:
        """The tokens of a submitted text, those that it has and then each as it comes.

        Several texts may be taken by turns; one for whose end nobody waits is cancelled.
        Raises InputError where its scores are no numbers.
        """
        n_given = 0
        try:
            while sequence.finished is None or n_given < len(sequence.written):
                if n_given == len(sequence.written):
                    self.step()
                new = sequence.written[n_given:]
                n_given += len(new)
                yield from new
        finally:
            self.cancel(sequence)
        if sequence.error:
            raise sequence.error

    def _submitted(self, request: Request) -> Iterator[int]:
        (sequence,) = self.submit(request)
        yield from self.take(sequence)
