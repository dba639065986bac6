"""A request to stop is answered inside, or acts afterwards: it is never lost."""

import signal

import pytest

from glassgpt.training.interruption import Interrupted, stop_on_signals


def interrupted(presses: int, answer: bool, reached: list[str], number: signal.Signals = signal.SIGINT) -> None:
    """Work that is interrupted so many times, and then answers or does not."""
    with stop_on_signals() as stop:
        assert not stop()
        for _ in range(presses):
            signal.raise_signal(number)
        assert stop()
        reached.append("after")
        if answer:
            raise Interrupted(3, number)


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


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
def test_a_closed_terminal_asks_to_stop_unless_that_is_ignored() -> None:
    with pytest.raises(Interrupted):
        interrupted(1, answer=True, reached=[], number=signal.SIGHUP)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with stop_on_signals() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
