"""Training on a small disk that fills up: `python full_disk.py FOLDER TRIALS`, in a mount namespace of its own.

Prints what became of the trials, as JSON. In each the disk is full from another step on, with another room left.
"""

import functools
import json
import re
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import tiny_run

ROOMS = (0, 4096, 16384, 40960)
ONE_LINE = re.compile(
    r"cannot save \S+: (Input/output error|No space left on device); what was saved before is unharmed\. "
    r"(See to the disk|Make room), then (begin again: no step is saved yet|go on from step \d+ with: "
    r"glassgpt train --resume \S+)\n"
)


def refusal_of(process: BaseProcess, run: Path, log: Path) -> list[str]:
    """What is wrong with how training has ended: it is done, or it said in one line why not and how to go on."""
    said, failures = log.read_text(), tiny_run.torn(run)
    if process.exitcode == tiny_run.REFUSED:
        if not ONE_LINE.fullmatch(said):
            failures.append(f"it said {said!r}")
    elif process.exitcode != 0:
        failures.append(f"ended with {process.exitcode}: {said}")
    lost = tiny_run.steps_done(run) - tiny_run.newest_intact(run)
    return [*failures, *([f"{lost} steps are lost"] if lost > tiny_run.SAVE_EVERY else [])]


def trial(run: Path, log: Path, fill: Callable[[], None]) -> tuple[bool, list[str], tuple[Any, ...]]:
    """Whether a save was refused, what was wrong with that, and the result once there is room again."""
    process = tiny_run.start(run, alter=fill, log=log)
    process.join()
    found = refusal_of(process, run, log)
    (run.parent / "ballast").unlink(missing_ok=True)
    result = tiny_run.finish(run)
    found += tiny_run.litter(run)
    subprocess.run(["rm", "-r", str(run.parent)], check=True)
    return process.exitcode == tiny_run.REFUSED, found, result


def main(folder: Path, n_trials: int) -> None:
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(disk)], check=True)
    expected = tiny_run.finish(folder / "whole" / "run")
    failures, n_refused, n_torn = list[str](), 0, 0
    for number in range(n_trials):
        step, room = 1 + number * tiny_run.STEPS // n_trials, ROOMS[number % len(ROOMS)]
        fill = functools.partial(tiny_run.room_after, step, room)
        refused, found, result = trial(disk / str(number) / "run", folder / f"{number}.log", fill)
        n_refused += refused
        found += ["another result"] if result != expected else []
        failures += [f"full after step {step} but for {room}: {failure}" for failure in found]
    for number in range(n_controls := min(8, max(1, n_trials // 8))):
        run = disk / f"in-place-{number}" / "run"
        fill = functools.partial(tiny_run.room_after_in_place, 1 + number * tiny_run.SAVE_EVERY, ROOMS[2])
        tiny_run.start(run, alter=fill, log=folder / f"in-place-{number}.log").join()
        n_torn += bool(tiny_run.torn(run))
        subprocess.run(["rm", "-r", str(run.parent)], check=True)
    told = {"trials": n_trials, "refused": n_refused, "failures": failures}
    sys.stdout.write(json.dumps(told | {"controls": n_controls, "torn": n_torn}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
