"""`benchmarks/history.jsonl`: one line a measurement, to compare over commits and machines."""

import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HISTORY = Path(__file__).parent / "history.jsonl"
PACKAGES = (
    "torch", "numpy", "transformers", "tokenizers", "tiktoken", "litgpt", "ctranslate2", "llama-cpp-python",
)  # fmt: skip


def append(name: str, figures: dict[str, Any], path: Path = HISTORY) -> dict[str, Any]:
    """Add one measurement, with what it was measured on; returns the line."""
    line = {
        "benchmark": name,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "command": command(sys.argv),
        "machine": machine(),
        "versions": versions(),
        "figures": figures,
    }
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    return line


def command(arguments: Sequence[str]) -> str:
    """The command line of a script in this folder, without where things lie here: PATH stands for folders."""

    def anywhere(argument: str) -> str:
        flag, equals, value = argument.rpartition("=")
        return flag + equals + ("PATH" if os.path.isdir(value) else os.path.basename(value))

    script, *rest = arguments
    return shlex.join(["python", f"benchmarks/{os.path.basename(script)}", *map(anywhere, rest)])


def commit() -> str:
    """The commit that is checked out, with `+` where files differ from it; empty outside a checkout."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "../glassgpt")
        return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def machine() -> dict[str, str | float]:
    """The processor by name, its cores, the system, and how busy it was in the last minute."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text(encoding="utf-8").splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    described: dict[str, str | float] = {"cpu": model, "cores": n_cores}
    described["system"] = f"{platform.system()} {platform.machine()}"
    if hasattr(os, "getloadavg"):  # our own threads count as well: more than that means that others disturbed
        described["load"] = round(os.getloadavg()[0], 1)
    return described


def versions() -> dict[str, str]:
    """Python's version and those of the packages whose speed matters, where they are installed."""
    installed = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            installed[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed
