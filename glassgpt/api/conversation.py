"""A conversation with a model: what was typed and answered so far, and what the model is to see of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from glassgpt.api.gpt import GPT
from glassgpt.generation.sampling import Sampling
from glassgpt.settings import InputError
from glassgpt.text.chat_template import chat_template
from glassgpt.text.stream import StopStrings


@dataclass
class Turn:
    """What somebody typed, and what the model answered."""

    typed: str
    asked: list[int]
    """The ids from the end of the answer before to the beginning of this one."""
    answer: str = ""
    ids: list[int] = field(default_factory=list)
    """Of the answer."""
    ended: bool = False
    """Whether the model itself ended its answer."""


class Conversation:
    """Turns with one model.

    With a chat template each turn is a message and its answer. A model without one writes on: its answer continues
    the text, and what is typed next begins a new line of it; an empty line lets it write on where it stopped.

    When the text outgrows the model's context, the model sees the newest part that leaves room for the answer, and
    half of the context at least.
    """

    def __init__(self, gpt: GPT, sampling: Sampling, max_new_tokens: int = 200, stop: Sequence[str] = ()) -> None:
        if max_new_tokens < 1:
            raise InputError(f"max_new_tokens is {max_new_tokens}, but must be at least 1")
        self.gpt = gpt
        self.sampling = sampling
        self.max_new_tokens = max_new_tokens
        self.stop = stop
        self.template = chat_template(gpt.directory, gpt.tokenizer)
        self.turns: list[Turn] = []
        self._n_answers = 0

    def say(self, typed: str) -> Iterator[str]:
        """Add a turn and answer it, piece by piece. What was written counts, though not all of it may be wanted."""
        self.turns.append(Turn(typed, self._asked(typed)))
        return self._answer(self.turns[-1])

    def again(self) -> Iterator[str]:
        """Answer the last turn anew. Raises InputError where there is none."""
        if not self.turns:
            raise InputError("there is no answer yet to write again: type something first")
        last = self.turns.pop()
        self.turns.append(Turn(last.typed, last.asked))
        return self._answer(self.turns[-1])

    def reset(self) -> None:
        """Forget all turns."""
        self.turns.clear()

    @property
    def text(self) -> str:
        """All that was said."""
        if self.template:
            return "\n".join(f"user: {turn.typed}\nassistant: {turn.answer}\n" for turn in self.turns)
        return "".join(self._line_end(n) + turn.typed + turn.answer for n, turn in enumerate(self.turns)) + "\n"

    def prompt(self) -> list[int]:
        """What the model sees before the answer to the last turn."""
        *before, last = self.turns
        ids = [token for turn in before for token in (*turn.asked, *turn.ids)] + last.asked
        context_length = self.gpt.config.context_length
        room = max(context_length - self.max_new_tokens, context_length // 2, 1)
        seen = ids[-room:]
        if self.template and len(seen) < len(ids) and self.template.start in seen[:-1]:
            seen = seen[seen.index(self.template.start) :]  # whole messages
        return seen

    def _asked(self, typed: str) -> list[int]:
        encode, template = self.gpt.tokenizer.encode, self.template
        if template:
            return [*(template.closing() if self.turns else []), *template.message("user", typed), *template.opening()]
        if not self.turns:
            return self.gpt.prompt_ids(typed)
        if self.turns[-1].ended:
            return [self.gpt.tokenizer.end_of_text, *encode(typed)]
        return encode("\n" + typed) if typed else []

    def _line_end(self, n: int) -> str:
        """What separates turn n from the one before, in a model's text."""
        return "\n" if n and (self.turns[n].typed or self.turns[n - 1].ended) else ""

    def _answer(self, turn: Turn) -> Iterator[str]:
        tokenizer, stop = self.gpt.tokenizer, StopStrings(self.stop)
        ends = {tokenizer.end_of_text} | ({self.template.end} if self.template else set())
        sequence, self._n_answers = self._n_answers, self._n_answers + 1

        def noted() -> Iterator[int]:
            for token, _ in self.gpt.continued(self.prompt(), self.max_new_tokens, self.sampling, sequence):
                if token in ends:
                    turn.ended = True
                    return
                turn.ids.append(token)
                yield token

        for piece in self.gpt.decode_stream(noted(), stop):
            turn.answer += piece
            yield piece
        if stop.found:  # the tokens of the stop string are no part of the answer
            turn.ids = tokenizer.encode(turn.answer)
