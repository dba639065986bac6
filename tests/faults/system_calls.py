"""What a process asks of the file system, seen and hindered by strace."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

CHANGES = "mkdir,write,fsync,rename,symlink,unlink,unlinkat,rmdir"
"""The system calls that change the disk, but for `openat`; Python makes none of them while it starts."""

needs_strace = pytest.mark.skipif(
    sys.platform != "linux" or (shutil.which("strace") is None and "CI" not in os.environ),
    reason="needs strace, which is Linux's",
)


@dataclass(frozen=True)
class Call:
    """One system call of a trace."""

    name: str
    n: int
    """It is the process's n-th of this name."""
    line: str


def calls_of(trace: Path) -> list[Call]:
    """The calls of a trace in order, without the lines that tell of signals and of the end."""
    lines = [re.sub(r"^\d+ +(?=\w+\()", "", line) for line in trace.read_text().splitlines()]
    seen: dict[str, int] = {}
    calls = []
    for line in lines:
        if found := re.match(r"(\w+)\(", line):
            name = found[1]
            seen[name] = seen.get(name, 0) + 1
            calls.append(Call(name, seen[name], line))
    return calls


def strace(trace: Path, *options: str) -> list[str]:
    """The command that traces into a file, to be followed by a command or by `-p` and a process."""
    return ["strace", "-y", "-s", "0", "-o", str(trace), *options]


def at(call: Call, what: str) -> tuple[str, ...]:
    """The options that do `what` to this one call, such as `signal=SIGKILL` or `error=ENOSPC`."""
    return ("-e", f"trace={call.name}", "-e", f"inject={call.name}:{what}:when={call.n}")


def attached(process: int, trace: Path, *options: str) -> "subprocess.Popen[str]":
    """strace on a running process; it ends with the process."""
    return subprocess.Popen([*strace(trace, *options), "-p", str(process)], stderr=subprocess.PIPE, text=True)
