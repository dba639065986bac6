"""Ctrl-C, SIGTERM and a closed terminal ask training to save and go; a second one ends it at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(Exception):
    """Training was asked to stop, and its checkpoint is saved."""

    def __init__(self, step: int, signal_number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signal_number).name} after step {step}")
        self.step = step
        self.signal_number = signal_number


class StopRequest:
    """Which signal has asked to stop, if one has."""

    def __init__(self) -> None:
        self.signal_number: int | None = None

    def __call__(self) -> bool:
        return self.signal_number is not None


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """While inside, the first SIGINT, SIGTERM or SIGHUP is noted in the request instead of ending the process.

    One that nobody inside has answered, by an exception, acts at the end as it would have outside. One that is ignored
    outside, as `nohup` does with SIGHUP, stays ignored. Signals reach the main thread only; elsewhere the request stays
    empty.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: handler for number in numbers if (handler := signal.getsignal(number)) != signal.SIG_IGN}

    def note(number: int, frame: FrameType | None) -> None:
        request.signal_number = number
        for again, handler in before.items():
            signal.signal(again, handler)

    for number in before:
        signal.signal(number, note)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if request.signal_number is not None:
        signal.raise_signal(request.signal_number)
