"""The engine: each text is what it is alone, whatever comes and goes beside it."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pytest
from exact_runner import BROKEN, ExactRunner
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from glassgpt.generation.engine import Engine, Event
from glassgpt.generation.sampling import Sampling
from glassgpt.generation.sequence import Request, TokenSequence, visible_start
from glassgpt.settings import InputError

GREEDY = Sampling(temperature=0)
LONG = [1, 2, 3, 4, 5, 6, 0, 1, 3, 5, 2, 4]  # as long as the context


def asked(ids: Sequence[int] = (1, 2, 3), max_new_tokens: int = 5, **changes: object) -> Request:
    return Request(ids=ids, max_new_tokens=max_new_tokens, **{"sampling": GREEDY, "speculate": False} | changes)


samplings = st.sampled_from([GREEDY, Sampling(temperature=1.0, seed=5), Sampling(top_k=3, repetition_penalty=1.3)])
prompts = st.builds(lambda n, end: (LONG[:n] + end)[:12], st.integers(0, 12), st.lists(st.integers(0, 6), max_size=4))
requests = st.builds(
    Request,
    ids=prompts.filter(len),
    max_new_tokens=st.integers(1, 30),
    sampling=samplings,
    stop=st.none() | st.integers(0, 6),
    n=st.integers(1, 3),
    sequence=st.integers(0, 3),
    speculate=st.booleans(),
)


class ManyRequests(RuleBasedStateMachine):
    """Requests of all kinds arrive, end and are cancelled at any time."""

    @initialize(
        n_slots=st.integers(1, 4),
        spare_rows=st.integers(0, 20),
        least_shared=st.integers(1, 5),
        row_cost=st.sampled_from([0.0, 0.1, 1.0]),
        noise=st.sampled_from([0.0, 0.2, 1.0]),
        breaks=st.booleans(),
    )
    def start(
        self, n_slots: int, spare_rows: int, least_shared: int, row_cost: float, noise: float, breaks: bool
    ) -> None:
        self.runner = ExactRunner(n_slots=n_slots, noise=noise, breaks=breaks)
        self.max_rows = n_slots + spare_rows
        self.engine = Engine(self.runner, max_rows=self.max_rows, least_shared=least_shared, row_cost=row_cost)
        self.sequences: list[TokenSequence] = []
        self.events: dict[TokenSequence, list[Event]] = defaultdict(list)
        self.cancelled: set[TokenSequence] = set()

    @rule(request=requests)
    def submit(self, request: Request) -> None:
        new = self.engine.submit(request)
        assert [sequence.number for sequence in new] == list(range(request.sequence, request.sequence + request.n))
        self.sequences += new

    @rule(ids=st.sampled_from([[], [7], [-1], [1] * 13, [1.5]]))
    def submit_what_cannot_be_written(self, ids: list[int]) -> None:
        before = self.engine.n_waiting
        with pytest.raises(InputError):
            self.engine.submit(asked(ids))
        assert self.engine.n_waiting == before

    @precondition(lambda self: self.sequences)
    @rule(which=st.integers(0, 1000))
    def cancel(self, which: int) -> None:
        sequence = self.sequences[which % len(self.sequences)]
        if sequence.finished is None:
            self.cancelled.add(sequence)
        self.engine.cancel(sequence)

    @rule()
    def step(self) -> None:
        n_passes = len(self.runner.passes)
        for event in self.engine.step():
            assert not any(earlier.finished for earlier in self.events[event.sequence])
            assert len(event.logits) == len(event.ids)
            self.events[event.sequence].append(event)
        assert all(self.events[sequence][-1].finished == "cancelled" for sequence in self.cancelled)
        assert max(self.runner.rows[n_passes:], default=0) <= self.max_rows
        assert self.engine.n_writing <= self.runner.n_slots

    def teardown(self) -> None:
        for _ in range(100 * len(getattr(self, "sequences", ()))):
            if self.engine.idle:
                break
            self.step()
        for sequence in getattr(self, "sequences", ()):
            self.check(sequence)
        if hasattr(self, "engine"):
            assert self.engine.idle
            assert (self.engine.n_writing, self.engine.n_waiting) == (0, 0)
            fresh = self.engine.submit(asked(n=self.runner.n_slots))  # every slot is free again
            self.engine.step()
            assert self.engine.n_writing + sum(s.finished is not None for s in fresh) == self.runner.n_slots

    def check(self, sequence: TokenSequence) -> None:
        """Its events are its text, and that is the text of the request alone, as far as it was to be written."""
        events = self.events[sequence]
        assert [event.finished for event in events[:-1]] == [None] * (len(events) - 1)
        assert events[-1].finished == sequence.finished
        written = [token for event in events for token in event.ids]
        assert written == sequence.written
        request, alone, error = sequence.request, [], None
        try:
            for token in self.runner.alone(request, sequence.number - request.sequence):
                alone.append(token)
        except InputError as raised:
            error = raised
        if sequence in self.cancelled:
            assert sequence.finished == "cancelled"
            assert written == alone[: len(written)]
        else:
            assert written == alone
            expected = "failed" if error else "length" if len(alone) == request.max_new_tokens else "stop"
            assert sequence.finished == expected
        ids = list(request.ids) + written
        for n, row in enumerate(row for event in events for row in event.logits):
            visible = ids[visible_start(len(request.ids) + n, 12) : len(request.ids) + n]
            np.testing.assert_array_equal(row, self.runner.scores(visible))


@pytest.mark.thorough
def test_whatever_comes_and_goes_each_text_is_what_it_is_alone() -> None:
    run_state_machine_as_test(
        ManyRequests, settings=settings(max_examples=150, stateful_step_count=40, deadline=None)
    )


def test_prompts_with_a_common_beginning_are_computed_once() -> None:
    runner = ExactRunner(n_slots=3)
    engine = Engine(runner, least_shared=2)
    engine.run([asked(LONG[:8], n=2, max_new_tokens=1), asked([*LONG[:5], 0, 0, 0], max_new_tokens=1)])
    assert runner.rows == [8, 1 + 3]
    assert [length for _, _, length in runner.copies] == [7, 5]


def test_what_a_finished_text_left_is_used_in_place_or_copied_where_it_is_busy() -> None:
    runner = ExactRunner(n_slots=2)
    engine = Engine(runner, least_shared=2)
    (first,) = engine.run([asked(LONG[:6], max_new_tokens=3)])
    follow_up = [*first.ids, 5]
    engine.run([asked(follow_up, max_new_tokens=1)])
    assert runner.rows[-1] == 2  # the last token of the first text, and the new one
    assert runner.copies == []
    engine.run([asked(follow_up, max_new_tokens=1), asked([*follow_up[:-1], 0], max_new_tokens=1)])
    assert len(runner.copies) == 1
    assert runner.rows[-1] == 2


def test_those_that_wait_for_a_common_beginning_go_on_when_the_first_is_cancelled() -> None:
    runner = ExactRunner(n_slots=3)
    engine = Engine(runner, max_rows=4, least_shared=2)
    first, second, third = engine.submit(asked(LONG, n=3))
    engine.step()
    assert [len(span.ids) for span in runner.passes[0]] == [4]
    engine.cancel(first)
    while not engine.idle:
        engine.step()
    assert second.written == third.written == list(runner.alone(asked(LONG)))
    assert sum(runner.rows) == 12 + 1 + 2 * (10 + 1 + 1 + 10)  # the window moves before the second and the fifth token


def test_a_long_prompt_does_not_stop_what_is_being_written() -> None:
    engine = Engine(ExactRunner(n_slots=2), max_rows=3)
    (writing,) = engine.submit(asked([1], max_new_tokens=9))
    engine.step()
    (reading,) = engine.submit(asked(LONG, max_new_tokens=1))
    n_steps = 0
    while not reading.finished:
        n_written = len(writing.written)
        engine.step()
        n_steps += 1
        assert len(writing.written) == n_written + 1
    assert n_steps == len(LONG) / 2


def test_a_full_engine_queues_in_order() -> None:
    engine = Engine(ExactRunner(n_slots=2))
    sequences = [engine.submit(asked([token], max_new_tokens=3))[0] for token in range(7)]
    begun: list[TokenSequence] = []
    while not engine.idle:
        assert engine.n_writing <= 2
        begun += [event.sequence for event in engine.step() if event.sequence not in begun]
    assert begun == sequences


def test_a_cancelled_text_gets_no_more_tokens_and_frees_its_slot_for_the_next_step() -> None:
    runner = ExactRunner(n_slots=1)
    engine = Engine(runner, max_rows=2)
    writing, reading, waiting, last = (
        engine.submit(asked(ids, max_new_tokens=9))[0] for ids in ([1], LONG, [3], [4])
    )
    engine.step()
    engine.cancel(writing)
    engine.cancel(waiting)
    engine.cancel(writing)
    events = engine.step()
    assert [(event.sequence, event.ids, event.finished) for event in events] == [
        (writing, [], "cancelled"), (waiting, [], "cancelled")
    ]  # fmt: skip
    assert list(runner.passes[-1][0].ids) == LONG[1:3]  # the slot held its first token
    engine.cancel(reading)
    events = engine.step()
    assert [(event.sequence, event.finished) for event in events] == [(reading, "cancelled"), (last, None)]
    assert len(writing.written) == 1


def test_scores_that_are_no_numbers_end_their_own_text_only() -> None:
    runner = ExactRunner(n_slots=2, breaks=True)
    engine = Engine(runner)
    broken, whole = engine.run([asked([3, BROKEN]), asked([3, 4], stop=BROKEN)])
    assert (broken.finished, broken.written) == ("failed", [])
    assert "weights are damaged" in str(broken.error)
    assert whole.finished != "failed"
    assert whole.written == list(runner.alone(asked([3, 4], stop=BROKEN)))
    with pytest.raises(InputError, match="weights are damaged"):
        list(engine.stream(asked([BROKEN])))


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (asked([]), "the prompt has no tokens"),
        (asked([1] * 13), "the prompt has 13 tokens, but the model's context_length is 12: leave out the first 1"),
        (asked([1, 7]), "token 7 is not in the model's vocabulary of 7"),
        (asked([1, "2"]), "'2' in the prompt is no token"),
        (asked([1.0]), "1.0 in the prompt is no token"),
        (asked(max_new_tokens=0), "max_new_tokens is 0, but must be at least 1"),
        (asked(max_new_tokens=5.5), "max_new_tokens is 5.5, but must be a whole number"),
        (asked(n=0), "n is 0, but must be at least 1"),
        (asked(sequence=-1), "sequence is -1, but must be from 0"),
        (asked(n=3, sequence=2**63 - 1), "sequence is 9223372036854775807, but"),
    ],
)
def test_what_cannot_be_written_is_refused_in_one_line_and_touches_nothing(request_: Request, message: str) -> None:
    engine = Engine(ExactRunner(n_slots=2))
    for refused in (engine.submit, engine.stream, lambda request: engine.run([asked(), request])):
        with pytest.raises(InputError, match="^" + message) as caught:
            refused(request_)
        assert "\n" not in str(caught.value)
        assert engine.idle


def test_fewer_rows_than_slots_are_refused() -> None:
    with pytest.raises(InputError, match="max_rows is 3, but must be at least 4, the number of slots"):
        Engine(ExactRunner(n_slots=4), max_rows=3)


def test_a_runner_without_slots_is_refused() -> None:
    with pytest.raises(InputError, match="the runner has 0 slots, but needs at least 1"):
        Engine(ExactRunner(n_slots=0))


def test_only_a_text_that_submit_gave_can_be_cancelled() -> None:
    engine = Engine(ExactRunner())
    sequences = engine.submit(asked())
    for other in (12345, sequences, None):
        with pytest.raises(InputError, match=r"cannot be cancelled: give one of the texts that submit returned$"):
            engine.cancel(other)  # pyrefly: ignore[bad-argument-type]
    engine.cancel(sequences[0])
    assert [event.finished for event in engine.step()] == ["cancelled"]


def test_a_pass_that_fails_is_tried_again_with_nothing_lost() -> None:
    class Failing(ExactRunner):
        def forward(self, spans):
            scores = super().forward(spans)
            if len(self.passes) % 2:
                raise MemoryError
            return scores

    runner = Failing(n_slots=2)
    engine = Engine(runner)
    (cancelled,) = engine.submit(asked())
    engine.cancel(cancelled)
    sequences = [engine.submit(asked([token], max_new_tokens=20, speculate=True))[0] for token in range(3)]
    events, n_failed = [], 0
    while not engine.idle:
        try:
            events += engine.step()
        except MemoryError:
            n_failed += 1
    assert n_failed > 20
    assert [sequence.written for sequence in sequences] == [
        list(runner.alone(asked([token], max_new_tokens=20))) for token in range(3)
    ]
    assert [event.finished for event in events if event.sequence is cancelled] == ["cancelled"]


def test_streams_run_beside_each_other_and_one_that_is_left_is_cancelled() -> None:
    runner = ExactRunner(n_slots=2)
    engine = Engine(runner)
    left, whole = engine.stream(asked([1], max_new_tokens=20)), engine.stream(asked([2], max_new_tokens=20))
    pairs = [(next(left), next(whole)) for _ in range(5)]
    left.close()
    assert engine.n_writing == 1
    assert [token for _, token in pairs] + list(whole) == list(runner.alone(asked([2], max_new_tokens=20)))
    assert engine.idle
    unread = engine.stream(asked())
    assert engine.idle
    del unread
    with pytest.raises(InputError, match="n is 2, but a stream is of one text"):
        engine.stream(asked(n=2))
