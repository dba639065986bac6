"""A request to stop is answered inside, or acts afterwards: it is never lost."""

import signal

import pytest

from glassgpt.training.interruption import Interrupted, stop_on_signals


def test_a_signal_is_noted_and_does_not_end_what_runs() -> None:
    with pytest.raises(Interrupted, match="SIGINT after step 3"), stop_on_signals() as stop:
        assert not stop()
        signal.raise_signal(signal.SIGINT)
        assert stop()
        raise Interrupted(3, signal.SIGINT)


def test_a_signal_that_nobody_answers_acts_at_the_end() -> None:
    reached = False
    with pytest.raises(KeyboardInterrupt):
        with stop_on_signals():
            signal.raise_signal(signal.SIGINT)
            reached = True
    assert reached


def test_a_second_signal_ends_it_at_once() -> None:
    with pytest.raises(KeyboardInterrupt), stop_on_signals():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("the second signal should have ended this")


def test_the_handlers_are_back_afterwards() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with stop_on_signals():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
