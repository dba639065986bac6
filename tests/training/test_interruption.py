"""A request to stop is answered inside, or acts afterwards: it is never lost."""

import signal

import pytest

from glassgpt.training.interruption import Interrupted, stop_on_signals


def interrupted(presses: int, answer: bool, reached: list[str]) -> None:
    """Work that is interrupted so many times, and then answers or does not."""
    with stop_on_signals() as stop:
        assert not stop()
        for _ in range(presses):
            signal.raise_signal(signal.SIGINT)
        assert stop()
        reached.append("after")
        if answer:
            raise Interrupted(3, signal.SIGINT)


@pytest.mark.parametrize(
    ("presses", "answer", "ends_with", "goes_on"),
    [(1, True, Interrupted, True), (1, False, KeyboardInterrupt, True), (2, True, KeyboardInterrupt, False)],
    ids=["answered", "nobody answers: it acts at the end", "a second one ends it at once"],
)
def test_no_signal_is_lost(presses: int, answer: bool, ends_with: type[BaseException], goes_on: bool) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    reached: list[str] = []
    with pytest.raises(ends_with):
        interrupted(presses, answer, reached)
    assert bool(reached) == goes_on
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
