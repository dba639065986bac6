"""Ctrl-C, SIGTERM and a closed terminal ask training to save and go; a second one ends it at once."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

STOPPING = ("SIGINT", "SIGTERM", "SIGHUP")


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


def stopping() -> dict[int, Any]:
    """The handlers of the signals that stop, of those that are not ignored (None: by something other than Python)."""
    numbers = [getattr(signal, name) for name in STOPPING if hasattr(signal, name)]
    handlers = {number: signal.getsignal(number) for number in numbers}
    return {number: handler for number, handler in handlers.items() if handler not in (signal.SIG_IGN, None)}


class Once:
    """A handler of several signals for a whole process: the first of them raises KeyboardInterrupt with its number.

    After that the system's own action is back, so that a second one ends the process at once. A handler in Python
    would have to wait for the end of a long call of compiled code, or of a disk that does not answer.
    """

    def __init__(self, first: Callable[[], None] = lambda: None) -> None:
        """`first` is called at the first signal."""
        self.numbers, self.first = [*stopping()], first

    def install(self) -> None:
        """Handle what is not ignored. In another thread than the main one nothing can be, and nothing is."""
        if threading.current_thread() is threading.main_thread():
            for number in self.numbers:
                signal.signal(number, self)

    def spend(self) -> None:
        """The first signal is there."""
        for number in self.numbers:
            signal.signal(number, signal.SIG_DFL)
        self.first()

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.spend()
        raise KeyboardInterrupt(number)


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
    before = stopping()

    def restore() -> None:
        for number, handler in before.items():
            if not (isinstance(handler, Once) and request()):
                signal.signal(number, handler)

    def note(number: int, frame: FrameType | None) -> None:
        request.signal_number = number
        restore()
        if isinstance(once := before[number], Once):
            once.spend()

    for number in before:
        signal.signal(number, note)
    try:
        yield request
    finally:
        restore()
    if request.signal_number is not None:
        if isinstance(before[request.signal_number], Once):  # it is spent, and has not raised yet
            raise KeyboardInterrupt(request.signal_number)
        signal.raise_signal(request.signal_number)
