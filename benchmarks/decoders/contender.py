"""A contender's process, seen from outside, and how much of the machine others used during its turn."""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Turn:
    seconds: float
    """Of one time, the median where there were several; with the start of the process where it was new."""
    others: float
    """Processor cores that other programs used meanwhile."""
    answer: dict[str, Any]


class Contender:
    def __init__(self, name: str, path: Path, threads: int) -> None:
        here = Path(__file__).parents[1]
        paths = os.pathsep.join([str(here), str(here.parent), os.environ.get("PYTHONPATH", "")])
        self.name = name
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 (closed by end)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "decoders", name, str(path), str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=os.environ | {"PYTHONPATH": paths},
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, **request: Any) -> Any:
        """The answer to a request. Ends the benchmark where the contender's process has ended."""
        assert self._process.stdin
        assert self._process.stdout
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())
        except (BrokenPipeError, ValueError):
            self._errors.seek(0)
            lines = self._errors.read().splitlines() or ["without a word"]
            raise SystemExit(f"{self.name} ended: {lines[-1]}") from None

    def turn(self, **request: Any) -> Turn:
        busy = Busy(self.pid)
        answer = self.ask(**request)
        return Turn(middle(answer["seconds"]), busy.others(), answer)

    def end(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()
        self._errors.close()


def fresh_turn(name: str, path: Path, threads: int, **request: Any) -> Turn:
    """A turn of a new process, from its start to its answer."""
    began = time.perf_counter()
    contender = Contender(name, path, threads)
    busy = Busy(contender.pid, started=True)
    answer = contender.ask(**request)
    seconds = time.perf_counter() - began
    others = busy.others()
    contender.end()
    return Turn(seconds, others, answer)


def command_turn(command: list[str]) -> Turn:
    """A program from its start to its end. Ends the benchmark where it fails."""
    busy = Busy(os.getpid())
    began = time.perf_counter()
    done = subprocess.run([sys.executable, *command], capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr.decode().strip())
    return Turn(time.perf_counter() - began, busy.others(), {"ids": []})


class Busy:
    """The processor time of all but one process and its children since now, from Linux's /proc; 0 elsewhere."""

    def __init__(self, pid: int, started: bool = False) -> None:
        self._pid = pid
        self._began, self._all = time.perf_counter(), all_ticks()
        self._own = 0 if started else own_ticks(pid)

    def others(self) -> float:
        """Cores that were used by others, on average."""
        ticks = all_ticks() - self._all - (own_ticks(self._pid) - self._own)
        return max(0.0, ticks / 100 / (time.perf_counter() - self._began))


def all_ticks() -> int:
    """Hundredths of a second that the processors have worked: all but idle and waiting for a disk."""
    try:
        numbers = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    except OSError:
        return 0
    user, nice, system, _idle, _waiting, *rest = map(int, numbers[:8])
    return user + nice + system + sum(rest)


def own_ticks(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except OSError:
        return 0
    return sum(map(int, fields[11:15]))  # user and system, its own and that of the processes it has waited for


def middle(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]
