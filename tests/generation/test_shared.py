"""One runner lent to texts by turns."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from glassgpt.config import GPTConfig
from glassgpt.generation.sampling import Sampling
from glassgpt.generation.shared import SharedRunner
from glassgpt.generation.single import generate_on
from glassgpt.native.spans import Span

CONFIG = GPTConfig(vocab_size=50, context_length=1500, embedding_dim=8, n_heads=1, n_layers=1)
GREEDY = Sampling(temperature=0)


class Sums:
    """A runner whose next token is the sum of all before it; it counts what it computes."""

    config = CONFIG
    n_slots = 1

    def __init__(self) -> None:
        self.held: list[int] = []
        self.computed: list[int] = []
        self.fails = False

    def forward(self, spans: Sequence[Span]) -> NDArray[np.float32]:
        (span,) = spans
        assert span.start <= len(self.held)
        if self.fails:
            self.held = []
            raise MemoryError
        self.held = [*self.held[: span.start], *span.ids]
        self.computed.append(len(span.ids))
        ends = range(len(self.held) - span.n_logits, len(self.held))
        return np.eye(50, dtype=np.float32)[[sum(self.held[: end + 1]) % 50 for end in ends]].reshape(-1, 50)

    def copy(self, source: int, target: int, length: int) -> None: ...


def written(shared: SharedRunner, prompt: list[int], n: int = 5) -> list[int]:
    steps = generate_on(shared.lend(), prompt, max_new_tokens=n, sampling=GREEDY, speculate=False)
    return [token for token, _ in steps]


def test_what_two_texts_begin_with_is_computed_once() -> None:
    runner = Sums()
    shared = SharedRunner(runner)
    prompt = [3, 1, 4, 1, 5, 9, 2, 6]
    first = written(shared, prompt)
    assert runner.computed == [8, 1, 1, 1, 1]
    runner.computed.clear()
    assert written(shared, [*prompt, *first, 7]) == written(SharedRunner(Sums()), [*prompt, *first, 7])
    assert runner.computed == [2, 1, 1, 1, 1], "the last token of the first text, and the new one"
    runner.computed.clear()
    assert written(shared, prompt) == first
    assert runner.computed == [1, 1, 1, 1, 1], "the scores after the prompt"


def test_a_text_that_lost_the_slot_is_computed_again_in_pieces_and_goes_on() -> None:
    runner = Sums()
    shared = SharedRunner(runner)
    long = [n % 50 for n in range(1200)]
    alone = written(SharedRunner(Sums()), long)
    steps = generate_on(shared.lend(), long, max_new_tokens=5, sampling=GREEDY, speculate=False)
    found = [next(steps)[0], next(steps)[0]]
    written(shared, [49, 48])
    runner.computed.clear()
    assert found + [token for token, _ in steps] == alone
    assert runner.computed == [512, 512, 178, 1, 1]


class WithNext(Sums):
    """The same with the native decoder's call, whose scores the next one overwrites."""

    def __init__(self) -> None:
        super().__init__()
        self.scores = np.zeros(50, np.float32)
        self.n_calls = 0

    def next(self, slot: int, start: int, token: int) -> NDArray[np.float32]:
        self.n_calls += 1
        self.scores[:] = self.forward([Span(slot, start, [token])])[0]
        return self.scores


def test_the_call_for_one_token_is_used_and_its_scores_last() -> None:
    runner = WithNext()
    shared = SharedRunner(runner)
    prompts = [[3, 1, 4], [3, 1, 5]]
    texts = [generate_on(shared.lend(), ids, max_new_tokens=4, sampling=GREEDY, speculate=False) for ids in prompts]
    rounds = [[next(text) for text in texts] for _ in range(4)]
    assert runner.n_calls == 0, "the slot is another's each time"
    assert [[step[0] for step in text] for text in zip(*rounds)] == [
        written(SharedRunner(Sums()), prompt, 4) for prompt in prompts
    ]
    steps = [*generate_on(shared.lend(), [7], max_new_tokens=4, sampling=GREEDY, speculate=False)]
    assert runner.n_calls == 3
    assert [int(scores.argmax()) for _, scores in steps] == [token for token, _ in steps]


def test_after_a_failure_nothing_is_taken_for_granted() -> None:
    runner = Sums()
    shared = SharedRunner(runner)
    first = written(shared, [3, 1, 4])
    runner.fails = True
    with pytest.raises(MemoryError):
        written(shared, [3, 1, 4, 4])
    runner.fails = False
    assert written(shared, [3, 1, 4]) == first
