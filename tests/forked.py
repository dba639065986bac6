"""Run a function in a copy of this process, where it may be killed, mount disks or hang hooks that stay."""

import os
import signal
import traceback
from collections.abc import Callable

import pytest

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork, which Windows lacks")


def start(function: Callable[[], None]) -> int:
    """The process id of a child that runs `function` and exits with 1 where it raises."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            function()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return child


def run(function: Callable[[], None]) -> None:
    _, status = os.waitpid(start(function), 0)
    assert status == 0, "the child failed: see its traceback above"


def kill(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
