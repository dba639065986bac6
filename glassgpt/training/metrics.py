"""What training measures: the lines of metrics.jsonl and health.jsonl, and the memory of this process."""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from glassgpt.files.atomic import append_line


@dataclass(frozen=True)
class Metrics:
    """One line of metrics.jsonl: the state of a run after `step` steps."""

    step: int
    tokens: int
    """Trained on so far."""
    seconds: float
    """Of running so far, from the start of the process, evaluations and saves included."""
    loss: float
    """Nats a token of this step's batch."""
    val_bpb: float | None
    """Bits per byte of the validation text, where this step was evaluated."""
    lr: float
    grad_norm: float
    tokens_per_s: float
    """Since the line before, without evaluations and saves."""
    memory_bytes: int
    """Resident memory of this process."""


def append_metrics(path: Path, metrics: Metrics) -> None:
    """Add one line. Raises SaveError where the system refuses."""
    append_line(path, json.dumps(asdict(metrics)) + "\n")


def read_metrics(path: Path) -> list[Metrics]:
    """All whole lines; a last line that a crash cut short is left out, and so is one that makes no sense."""
    lines = path.read_bytes().splitlines() if path.is_file() else []
    read = []
    for line in lines:
        try:
            metrics = Metrics(**json.loads(line))
            numbers = asdict(metrics) | {"val_bpb": metrics.val_bpb or 0.0}
            if all(type(value) is float or (type(value) is int and abs(value) < 2**63) for value in numbers.values()):
                read.append(metrics)
        except (ValueError, TypeError, RecursionError):
            continue
    return read


def append_health(path: Path, line: Mapping[str, Any]) -> None:
    """Add one line of health.jsonl (see `glassgpt.training.health`). Raises SaveError where the system refuses."""
    append_line(path, json.dumps(line) + "\n")


def read_health(path: Path) -> list[dict[str, Any]]:
    """All whole lines; one that a crash cut short, or that is no object with a step, is left out."""
    read = []
    for line in path.read_bytes().splitlines() if path.is_file() else []:
        try:
            values = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(values, dict) and type(values.get("step")) is int:
            read.append(values)
    return read


def resident_bytes() -> int:
    """Memory of this process now; where the system does not tell, the most there has been."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return peak_bytes()


def physical_bytes() -> int | None:
    """The memory of this machine; None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return None


def peak_bytes() -> int:
    """The most memory this process has had; 0 where the system does not tell."""
    try:  # Linux. Its ru_maxrss, below, can be that of the process which started this one.
        with open("/proc/self/status", encoding="ascii") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
