"""This process: when it began, since its start and imports count too, and how signals end it."""

import contextlib
import errno
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from glassgpt.training.interruption import Once, stopping

_IMPORTED = time.perf_counter()
SHOW_CURSOR = b"\x1b[?25h"
"""A live view has hidden it, and a process that is ended has no time to show it again."""


def began() -> float:
    """The start of this process, on the clock `time.perf_counter`.

    On Linux the kernel knows it. Elsewhere it is when this module was imported, which is among the first things that
    the command does: the start of the interpreter (some hundredths of a second) is then not counted.
    """
    try:
        with open("/proc/self/stat", encoding="ascii", errors="replace") as file:
            after_name = file.read().rpartition(")")[2].split()  # the name before it may hold anything
        started = int(after_name[19]) / os.sysconf("SC_CLK_TCK")  # seconds after boot, of field 22
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - started
    except (OSError, AttributeError, ValueError, IndexError):
        return _IMPORTED
    return time.perf_counter() - age


def interrupt_once() -> None:
    """From now on the first Ctrl-C, SIGTERM or closed terminal raises KeyboardInterrupt, and a second one ends all."""
    Once(lambda: _to_terminal(SHOW_CURSOR)).install()


def signal_of(interrupt: KeyboardInterrupt) -> str:
    """The name of the signal that raised it."""
    return signal.Signals(next(iter(interrupt.args), signal.SIGINT)).name


@contextmanager
def interruptible_imports() -> Iterator[None]:
    """While inside, a signal ends the process itself: some libraries swallow a KeyboardInterrupt as they load."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, frame: FrameType | None) -> None:
        _to_terminal(b"\r\x1b[2K" + SHOW_CURSOR)
        with contextlib.suppress(OSError):
            os.write(2, b"glassgpt: interrupted before anything was begun\n")
        os._exit(130)

    before = stopping()
    for number in before:
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _to_terminal(control: bytes) -> None:
    """Write to standard output where that is a terminal; it may be closed meanwhile."""
    with contextlib.suppress(OSError):
        if os.isatty(1):
            os.write(1, control)


class Lasting:
    """A stream to a terminal that may be closed meanwhile: what is written then is lost, and nothing else."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, while there is somebody to read."""
        with _unless_closed():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Hand over what was written."""
        with _unless_closed():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def _unless_closed() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != errno.EIO:
            raise


def say_which(directory: Path) -> None:
    """Where no directory was named: which run is taken."""
    path = directory.parent if directory.name.startswith("step-") else directory
    print(f"{os.path.relpath(path)}, the newest run:", file=sys.stderr)
