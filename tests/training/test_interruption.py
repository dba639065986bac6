"""A request to stop is answered inside, or acts afterwards: it is never lost."""

import signal
from collections.abc import Iterator

import pytest

from glassgpt.training.interruption import Interrupted, Once, stop_on_signals


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


@pytest.fixture
def once() -> Iterator[Once]:
    """The handler of a process, for a while this one's."""
    handler = Once()
    before = {number: signal.getsignal(number) for number in handler.numbers}
    handler.install()
    yield handler
    for number, old in before.items():
        signal.signal(number, old)


def spent(handler: Once) -> bool:
    return all(signal.getsignal(number) == signal.SIG_DFL for number in handler.numbers)


def test_a_first_signal_is_an_exception_and_a_second_one_the_systems_own_affair(once: Once) -> None:
    with pytest.raises(KeyboardInterrupt) as raised:
        signal.raise_signal(signal.SIGTERM)
    assert raised.value.args == (signal.SIGTERM,)
    assert spent(once)


@pytest.mark.parametrize(("answer", "ends_with"), [(True, Interrupted), (False, KeyboardInterrupt)])
def test_a_signal_that_is_noted_inside_is_the_first_one_too(
    once: Once, answer: bool, ends_with: type[BaseException]
) -> None:
    reached: list[str] = []
    with pytest.raises(ends_with) as raised:
        interrupted(1, answer, reached, signal.SIGTERM)
    assert signal.SIGTERM in (*raised.value.args, getattr(raised.value, "signal_number", None))
    assert reached
    assert spent(once), "a second one would end the process"


def test_without_a_signal_the_handler_of_the_process_is_back(once: Once) -> None:
    with stop_on_signals() as stop:
        assert not stop()
    assert all(signal.getsignal(number) is once for number in once.numbers)
