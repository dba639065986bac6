"""Ctrl-C and SIGTERM ask training to save and go; a second one ends it at once."""

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
    """While inside, the first SIGINT or SIGTERM is noted in the request instead of ending the process.

    One that nobody inside has answered, by an exception, acts at the end as it would have outside. Signals reach the
    main thread only; elsewhere the request stays empty.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

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
