"""How long `glassgpt train` takes to show something, and to its first step: on a pipe, as a process of its own.

    python benchmarks/first_progress.py --text book.txt --rounds 10
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import history

MARKS = {"first_line": "GlassGPT", "first_step": "1/"}
"""What begins the line that is waited for."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", required=True, type=Path)
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    found: dict[str, list[float]] = {name: [] for name in MARKS}
    for _ in range(arguments.rounds):
        for name, seconds in once(arguments.text.resolve()).items():
            found[name].append(seconds)
    figures = {
        name: {key: round(of(values), 3) for key, of in (("median", statistics.median), ("min", min), ("max", max))}
        for name, values in found.items()
    }
    for name, figure in figures.items():
        print(f"{name:12}{figure['median']:8.2f} s ({figure['min']:.2f} to {figure['max']:.2f})")
    history.append("first_progress", figures)


def once(text: Path) -> dict[str, float]:
    """Seconds from the start of the process to the first line of each sort."""
    command = [sys.executable, "-m", "glassgpt", "train", str(text), "--minutes", "0.2", "--data.cache", "cache"]
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                now = time.perf_counter() - began
                seconds |= {name: now for name, mark in MARKS.items() if name not in seconds and line.startswith(mark)}
                if len(seconds) == len(MARKS):
                    break
            process.kill()
    return seconds


if __name__ == "__main__":
    main()
