"""The command line as somebody at a terminal has it: keys in, what is shown out."""

import os
import select
import sys
from pathlib import Path

import pytest


class Terminal:
    """A process in a terminal of 80 columns: keys go in, what it shows is waited for."""

    def __init__(self, *command: str, home: Path, **environment: str) -> None:
        self.shown = b""
        pty = pytest.importorskip("pty", reason="this system has no pseudo-terminals")
        own = {"HOME": str(home), "TERM": "xterm-256color", "PROMPT_TOOLKIT_NO_CPR": "1", "COLUMNS": "80"}
        environment = os.environ | own | environment
        self.process, self.keys = pty.fork()
        if self.process == 0:
            os.execvpe(sys.executable, [sys.executable, "-m", "glassgpt", *command], environment)

    def press(self, keys: str) -> None:
        os.write(self.keys, keys.encode())

    def wait_for(self, text: str) -> str:
        """Read on until `text` is shown; what was shown up to its end."""
        while text.encode() not in self.shown:
            ready, _, _ = select.select([self.keys], [], [], 60)
            assert ready, f"waited a minute for {text!r}, shown is {self.shown!r}"
            self.shown += self._read()
        before, found, self.shown = self.shown.partition(text.encode())
        return (before + found).decode()

    def end(self) -> tuple[str, int]:
        """The rest of what is shown, and the exit code."""
        while more := self._read():
            self.shown += more
        _, status = os.waitpid(self.process, 0)
        os.close(self.keys)
        return self.shown.decode(), os.waitstatus_to_exitcode(status)

    def _read(self) -> bytes:
        try:
            return os.read(self.keys, 4096)
        except OSError:  # how Linux says that the other side is closed
            return b""
