"""R2. A full or failing disk at any write of a run: one line, a code that is not 0, and it goes on bit for bit."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import full_disk
import pytest
import tiny_run
from forked import needs_fork
from full_disk import refusal_of
from once import every_call, is_torn
from system_calls import CHANGES, Call, at, attached, calls_of, needs_strace
from tiers import Tally

from glassgpt.files.atomic import remove_litter

Amount = Callable[[int, int], int]
ONE_LINE = re.compile(r"cannot save \S+: [^\n]+; what was saved before is unharmed")

needs_mounts = pytest.mark.skipif(
    sys.platform != "linux" or (os.geteuid() != 0 and "CI" not in os.environ),
    reason="mounting a small disk needs root on Linux",
)


@pytest.mark.thorough
@needs_strace
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
def test_an_error_at_any_system_call_of_a_save_leaves_the_old_or_the_new_in_full(
    error: str, tmp_path: Path, tally: Tally
) -> None:
    failures, trials, n_refused = list[str](), 0, 0
    for folder, ended in every_call(tmp_path, "aside", f"error={error}"):
        trials += 1
        if is_torn(folder):
            failures.append(f"{folder.name} is torn")
        if ended.returncode:  # tidying up may be refused without harm; litter then waits for the next start
            n_refused += 1
            if ended.returncode != 1 or not ONE_LINE.fullmatch(ended.stderr.strip()):
                failures.append(f"{folder.name}: {ended.returncode} {ended.stderr}")
        remove_litter(folder)
        if {path.name for path in folder.iterdir()} != {"model", "run.json", "best", "trace"}:
            failures.append(f"{folder.name} keeps litter")
    in_place = [is_torn(folder) for folder, _ in every_call(tmp_path, "direct", f"error={error}")]
    control = f"written in place: {sum(in_place)} of {len(in_place)} torn"
    tally("R2", f"{error} at each system call of a save", trials, len(failures), control)
    assert failures == []
    assert n_refused > 10
    assert sum(in_place) > 2


@pytest.mark.thorough
@needs_strace
@needs_fork
def test_training_goes_on_after_an_error_at_any_system_call(tmp_path: Path, amount: Amount, tally: Tally) -> None:
    traced = tmp_path / "traced" / "run"
    process = tiny_run.start(traced, traced=True)
    tracer = attached(process.pid, tmp_path / "trace", "-e", f"trace={CHANGES}")
    process.join()
    tracer.wait()
    expected = tiny_run.result(traced)
    calls = [call for call in calls_of(tmp_path / "trace") if "run/" in call.line]
    every = max(1, len(calls) // amount(2, 120))

    def trial(call: Call) -> list[str]:
        run, error = tmp_path / f"{call.name}-{call.n}" / "run", ("EIO", "ENOSPC")[call.n % 2]
        process = tiny_run.start(run, traced=True, log=tmp_path / f"{call.name}-{call.n}.log")
        tracer = attached(process.pid, run.parent / "trace", *at(call, f"error={error}"))
        process.join()
        tracer.wait()
        failures = refusal_of(process, run, tmp_path / f"{call.name}-{call.n}.log")
        if tiny_run.finish(run) != expected:
            failures.append("another result")
        if process.exitcode == 0:  # what could not be tidied away waits for the next start, and there was none
            remove_litter(run)
        return [f"{error} at {call.line}: {failure}" for failure in [*failures, *tiny_run.litter(run)]]

    with ThreadPoolExecutor(2) as threads:
        tried = calls[:: every]
        failures = [failure for found in threads.map(trial, tried) for failure in found]
    what = f"EIO or ENOSPC at {len(tried)} of the {len(calls)} system calls by which a run writes"
    tally("R2", what, len(tried), len(failures), "as of a single save")
    assert failures == []


@pytest.mark.thorough
@needs_mounts
def test_training_goes_on_after_a_full_disk_has_room_again(amount: Amount, tmp_path: Path, tally: Tally) -> None:
    """On a small disk that is full from some step on, with a little room or none."""
    script = ["unshare", "-m", sys.executable, full_disk.__file__, str(tmp_path), str(amount(2, 72))]
    ended = subprocess.run(script, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    control = f"written in place: {found['torn']} of {found['controls']} torn"
    what = f"a disk that is full in the middle of training ({found['refused']} times refused)"
    tally("R2", what, found["trials"], len(found["failures"]), control)
    assert found["failures"] == []
    assert found["refused"] > found["trials"] / 2
    assert found["torn"] > 0
