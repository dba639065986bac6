"""R1. Killed at any system call of a save, or at any moment of a run: nothing is torn, and it goes on bit for bit."""

import functools
import random
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import tiny_run
from forked import needs_fork
from once import every_call, is_torn, state_of
from system_calls import CHANGES, Call, at, attached, calls_of, needs_strace
from tiers import Tally

from glassgpt.files.atomic import remove_litter

Amount = Callable[[int, int], int]


@pytest.mark.thorough
@needs_strace
def test_a_kill_at_any_system_call_of_a_save_leaves_the_old_or_the_new_in_full(tmp_path: Path, tally: Tally) -> None:
    failures, states, n_killed = 0, set(), 0
    for folder, ended in every_call(tmp_path, "aside", "signal=SIGKILL"):
        n_killed += ended.returncode != 0
        remove_litter(folder)
        left = {path.name for path in folder.iterdir()} - {"model", "run.json", "best", "trace"}
        failures += is_torn(folder) or bool(left)
        states.add("torn" if is_torn(folder) else state_of(folder))
    in_place = [is_torn(folder) for folder, _ in every_call(tmp_path, "direct", "signal=SIGKILL")]
    control = f"without the rename: {sum(in_place)} of {len(in_place)} torn"
    tally("R1", "SIGKILL at each system call of a save", n_killed, failures, control)
    assert failures == 0
    assert n_killed > 20
    assert states == {("old", "old"), ("new", "old"), ("new", "new")}
    assert sum(in_place) > 2


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """Gives, by its length, the result of a run that nobody stopped, and the seconds that it took."""

    @functools.cache
    def found(length: str) -> tuple[tuple[Any, ...], float]:
        run = tmp_path_factory.mktemp(length) / "run"
        before = time.perf_counter()
        return tiny_run.finish(run, length), time.perf_counter() - before

    return found


def spoilt(run: Path) -> list[str]:
    """What a kill has done to a run that it must not."""
    lost = tiny_run.steps_done(run) - tiny_run.newest_intact(run)
    return [*tiny_run.torn(run), *([f"{lost} steps are lost"] if lost > tiny_run.SAVE_EVERY else [])]


def calls_of_a_save(run: Path) -> list[Call]:
    """The calls that change the disk in the save and the evaluation in the middle of a run that nobody stops."""
    process = tiny_run.start(run, traced=True)
    tracer = attached(process.pid, run.parent / "trace", "-e", f"trace=openat,{CHANGES}")
    process.join()
    tracer.wait()
    assert process.exitcode == 0
    calls, middle = calls_of(run.parent / "trace"), tiny_run.EVAL_EVERY
    first, after = (f"step-{step:08d}.partial" for step in (middle, middle + tiny_run.SAVE_EVERY))
    begin, end = (next(index for index, call in enumerate(calls) if name in call.line) for name in (first, after))
    return [call for call in calls[begin:end] if call.name != "openat" or "O_CREAT" in call.line]


@pytest.mark.thorough
@needs_strace
@needs_fork
def test_a_run_killed_at_any_system_call_of_a_save_goes_on_bit_for_bit(
    tmp_path: Path, whole: Callable[[str], Any], amount: Amount, tally: Tally
) -> None:
    expected, _ = whole("steps")
    calls = calls_of_a_save(tmp_path / "traced" / "run")
    tried = calls[:: max(1, len(calls) // amount(2, len(calls)))]

    def trial(call: Call, alter: Callable[[], None] | None = None) -> list[str]:
        run = tmp_path / f"{call.name}-{call.n}{'-altered' if alter else ''}" / "run"
        process = tiny_run.start(run, alter=alter, traced=True)
        tracer = attached(process.pid, run.parent / "trace", *at(call, "signal=SIGKILL"))
        process.join()
        tracer.wait()
        if process.exitcode != -signal.SIGKILL:
            return [f"{call.line} was never made"]
        in_time = 0 <= tiny_run.steps_done(run) - tiny_run.EVAL_EVERY <= tiny_run.SAVE_EVERY
        failures = [*spoilt(run), *([] if in_time else [f"{call.line} was made elsewhere"])]
        if not alter and tiny_run.finish(run) != expected:
            failures.append("another result")
        return [*failures, *([] if alter else tiny_run.litter(run))]

    with ThreadPoolExecutor(2) as threads:
        failures = [failure for found in threads.map(trial, tried) for failure in found]
        in_place = [call for call in calls if call.name == "write" and ".safetensors" in call.line]
        in_place = in_place[:: max(1, len(in_place) // amount(1, 10))]
        torn = [*threads.map(lambda call: trial(call, tiny_run.in_place), in_place)]
    n_torn = sum(any("manifest" in line for line in found) for found in torn)
    control = f"written in place: {n_torn} of {len(torn)} torn"
    tally("R1", "SIGKILL at each system call of a save and an evaluation in a run", len(tried), len(failures), control)
    assert failures == []
    assert n_torn > 0


@dataclass
class Killed:
    """What became of one run that was killed up to three times, each time after a random share of its time."""

    n: int = 0
    before: int = 0
    """Of the kills, those before the first checkpoint."""
    saving: int = 0
    """And those that left a save half done."""
    failures: list[str] = field(default_factory=list)


def killed(run: Path, length: str, seconds: float, expected: tuple[Any, ...], chance: random.Random) -> Killed:
    found = Killed()
    for _ in range(3):
        if tiny_run.is_done(run):
            break
        process = tiny_run.start(run, length)
        process.join(chance.uniform(0, seconds))
        process.kill()
        process.join()
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        found.n += 1
        found.before += tiny_run.newest_intact(run) == 0
        found.saving += bool(tiny_run.litter(run))
        found.failures += spoilt(run)
    if tiny_run.finish(run, length) != expected:
        found.failures.append("another result")
    found.failures += tiny_run.litter(run)
    return found


@pytest.mark.thorough
@needs_fork
@pytest.mark.parametrize("length", tiny_run.LENGTHS)
def test_a_run_killed_at_random_moments_goes_on_bit_for_bit(
    length: str, tmp_path: Path, whole: Callable[[str], Any], amount: Amount, tally: Tally
) -> None:
    expected, seconds = whole(length)
    n_kills = amount(5, 100)

    def trial(seed: int) -> Killed:
        return killed(tmp_path / str(seed) / "run", length, seconds, expected, random.Random(f"{length} {seed}"))

    runs: list[Killed] = []
    with ThreadPoolExecutor(2) as threads:
        while sum(run.n for run in runs) < n_kills:
            runs += threads.map(trial, range(len(runs), len(runs) + 2))
        altered = [tiny_run.without_moments, tiny_run.with_a_wrong_step][: amount(1, 2)]
        results = [*threads.map(lambda alter: resumed_after(alter, tmp_path / alter.__name__, length), altered)]
    differ = sum(result != expected for result in results)
    n_killed, before, saving = (sum(getattr(run, name) for run in runs) for name in ("n", "before", "saving"))
    failures = [failure for run in runs for failure in run.failures]
    when = f"{before} before its first checkpoint, {saving} in a save"
    tally(
        "R1", f"SIGKILL at random moments of a run of {length} ({when})",
        n_killed, len(failures), f"without the moments, or one step off: {differ} of {len(results)} differ",
    )  # fmt: skip
    assert failures == []
    assert differ == len(results)


def resumed_after(alter: Callable[[], None], folder: Path, length: str) -> tuple[Any, ...]:
    """The result of a run that is killed in the middle and gone on with after `alter`."""
    process = tiny_run.start(folder / "run", length)
    while process.is_alive() and tiny_run.steps_done(folder / "run") < tiny_run.STEPS // 2:
        process.join(0.01)
    process.kill()
    process.join()
    return tiny_run.finish(folder / "run", length, alter)
