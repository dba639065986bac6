"""R3. A power cut at any moment leaves the last good checkpoint, and nothing under its name that is not whole."""

import json
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence, Set
from pathlib import Path

import pytest
import save_once
import tiny_run
from forked import needs_fork
from power_cut import TRACED, Call, Disk, calls_of, materialise, traced_run
from system_calls import needs_strace, strace
from tiers import Tally

from glassgpt.checkpoint.run import RunDirectory, find_checkpoint
from glassgpt.checkpoint.run_settings import read_settings
from glassgpt.data.prepare import open_prepared
from glassgpt.files.atomic import remove_litter
from glassgpt.files.reading import read_json
from glassgpt.settings import InputError

Amount = Callable[[int, int], int]
Check = Callable[[Path, int], list[str]]
LOGS = ("/metrics.jsonl", "/samples.txt")
LOGGED = ("step", "val_bpb")
SOON = 110
"""Calls after one that is left out within which it is missed, if it ever is."""


def of_a_run(folder: Path, sure: int) -> list[str]:
    """What is wrong with what a power cut left of the run in `folder`, whose checkpoint `sure` was told to be saved."""
    run = folder / "run"
    if not run.is_dir():
        return ["the run is gone"] if sure else []
    remove_litter(run)
    found = [path.name for path in run.iterdir() if path.name.startswith(".")] + tiny_run.torn(run)
    newest = tiny_run.newest_intact(run)
    if newest < sure:
        found.append(f"goes on from {newest}, not {sure}")
    if newest or (run / "config.yaml").exists():
        read_settings(run)
    for name in ("plan.json", "run.json", "report.json"):
        if (run / name).exists():
            read_json(run / name)
    if (run / "loss.svg").exists() and not (run / "loss.svg").read_text().endswith("</svg>\n"):
        found.append("loss.svg is torn")
    if sure:
        known = {"run.json": RunDirectory(run).latest, "latest": find_checkpoint(run / "latest")}
        found += [f"{name} names {place}" for name, place in known.items() if _step(place) < sure]
    lines = [json.loads(line) for line in _whole_lines(run / "metrics.jsonl")]
    logged, scored = ([line["step"] for line in lines if line["step"] < newest and line[name]] for name in LOGGED)
    sampled = re.findall(r"^--- step (\d+)", "\n".join(_whole_lines(run / "samples.txt")), re.MULTILINE)
    if logged != [*range(1, newest)] or scored != [int(step) for step in sampled if int(step) < newest]:
        found.append(f"before step {newest}, {logged} are logged, {scored} scored, and {sampled} have a sample")
    return found


def _step(checkpoint: Path | None) -> int:
    return int(checkpoint.name.removeprefix("step-")) if checkpoint else 0


def _whole_lines(path: Path) -> list[str]:
    lines = path.read_text().split("\n") if path.exists() else []
    return lines[:-1]


def of_a_prepared_text(folder: Path, sure: int) -> list[str]:
    """The same of a prepared text in the folder `cache`."""
    cache = folder / "cache"
    names = [path.name for path in cache.iterdir()] if cache.is_dir() else []
    prepared = [name for name in names if not name.startswith(".")]
    for name in prepared:
        open_prepared(cache / name)
    return [] if prepared or not sure else ["the prepared text is gone"]


def cut_everywhere(
    calls: Sequence[Call],
    before: Path,
    folder: Path,
    check: Check,
    n_random: int = 0,
    among: range | None = None,
    known: Set[int] = frozenset(),
) -> tuple[set[int], list[str]]:
    """Cut the power after every call, or only those `among` them: the states of the disk that this may leave, and what
    is wrong with the first that is not as it should be.

    `before` holds what was there at the beginning; `known` are states that are as they should be.
    """
    disk, seen, chance = Disk(before), set[int](known), random.Random(1)
    for number, call in enumerate(calls):
        disk.make(call)
        if among and number not in among:
            continue
        sure = int(disk.now("saved").strip() or 0)
        for left in disk.survivors(chance, n_random):
            key = hash((frozenset(left.items()), sure))
            if key in seen:
                continue
            seen.add(key)
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            materialise(left, folder)
            try:
                mistakes = check(folder, sure)
            except (InputError, OSError, ValueError, KeyError) as error:
                mistakes = [f"{type(error).__name__}: {error}"]
            if mistakes:
                return seen, [f"after {call.name} {call.strings[:1]} {call.descriptor}: {mistakes}"]
    return seen, []


def without_an_fsync(
    calls: Sequence[Call], before: Path, folder: Path, check: Check, every: int, known: Set[int]
) -> tuple[list[Call], list[Call]]:
    """Leave out one fsync after the other, of which `every` so many are tried: the tried, and those not missed."""
    tried = [index for index, call in enumerate(calls) if call.name == "fsync"][::every]
    unseen = []
    for index in tried:
        without = [*calls[:index], *calls[index + 1 :]]
        soon = range(index - 1, index + SOON)
        if not cut_everywhere(without, before, folder, check, among=soon, known=known)[1]:
            unseen.append(calls[index])
    return [calls[index] for index in tried], unseen


def order_mistakes(calls: Sequence[Call]) -> list[str]:
    """What gets its name before its bytes are on the disk, and which names are not made sure before the next is given.

    Lines that are added to a log are left out: they are made sure with the next checkpoint.
    """
    unsynced, renamed, logs, mistakes = dict[str, None](), dict[str, None](), set[str](), list[str]()
    for call in calls:
        about = call.descriptor[1] if call.descriptor else call.opened or call.strings[0].decode()
        if call.name == "openat" and "O_APPEND" in call.rest:
            logs.add(about)
        elif call.name == "fsync":
            unsynced.pop(about, None)
            renamed.pop(about, None)
        elif call.name == "rename":
            old, new = (path.decode() for path in call.strings)
            mistakes += [f"{path} renamed before its fsync" for path in unsynced if Path(path).is_relative_to(old)]
            mistakes += [f"{path} not synced before the next rename" for path in renamed]
            renamed[str(Path(new).parent)] = None
        elif (call.name == "write" and about not in logs) or (call.name == "mkdir" and ".partial-" in about):
            unsynced[about] = None
    return [*mistakes, *(f"{path} not synced at the end" for path in renamed)]


def traced_alone(folder: Path, way: str) -> list[Call]:
    """The calls of `save_once.py` in a folder that holds an empty `cache`; afterwards it is so again."""
    (folder / "cache").mkdir(parents=True)
    trace = folder.with_suffix(".trace")
    script = [sys.executable, save_once.__file__, str(folder), way]
    subprocess.run([*strace(trace, *TRACED), *script], check=True)
    shutil.rmtree(folder)
    (folder / "cache").mkdir(parents=True)
    return calls_of(trace, folder)


@pytest.mark.thorough
@needs_strace
def test_everything_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, tally: Tally) -> None:
    calls = traced_alone(tmp_path / "run", "run")
    mistakes, seen = order_mistakes(calls), list[bool]()
    for index in (index for index, call in enumerate(calls) if call.name == "fsync"):
        about = calls[index].descriptor
        if about and not about[1].endswith(LOGS) and about[1] != str(tmp_path / "run"):
            seen.append(bool(order_mistakes([*calls[:index], *calls[index + 1 :]])))
    n_renames = sum(call.name == "rename" for call in calls)
    control = f"without one fsync: {sum(seen)} of {len(seen)} seen"
    what = "write, fsync, rename, fsync of the folder in the trace of a run: renames"
    tally("R3", what, n_renames, len(mistakes), control)
    assert mistakes == []
    assert n_renames > 20
    assert sum(seen) > 0.9 * len(seen)


@pytest.mark.thorough
@needs_strace
@pytest.mark.parametrize(("way", "check"), [("run", of_a_run), ("prepare", of_a_prepared_text)])
def test_a_power_cut_at_any_moment_leaves_what_was_sure(
    way: str, check: Check, tmp_path: Path, amount: Amount, tally: Tally
) -> None:
    before, folder = tmp_path / "before", tmp_path / "left"
    calls = traced_alone(before, way)
    tried, mistakes = cut_everywhere(calls, before, folder, check, amount(1, 20))
    unsynced = [call for call in calls if call.name != "fsync"]
    assert cut_everywhere(unsynced, before, folder, check)[1], "without any fsync"
    syncs, unseen = without_an_fsync(calls, before, folder, check, amount(3, 1), tried)
    control = f"without one fsync: {len(syncs) - len(unseen)} of {len(syncs)} seen"
    what = f"power cut at each of {len(calls)} calls ({way}): states of the disk"
    tally("R3", what, len(tried), len(mistakes), control)
    assert mistakes == []
    assert len(unseen) < 2 / 3 * len(syncs), "those that a later one repeats before anybody relies on it"


@pytest.mark.thorough
@needs_strace
@needs_fork
def test_a_power_cut_in_training_leaves_what_was_sure(tmp_path: Path, amount: Amount, tally: Tally) -> None:
    before, folder = tmp_path / "before", tmp_path / "left"
    process = tiny_run.start(before / "run", traced=True)
    tracer = traced_run(process.pid, tmp_path / "trace")
    process.join()
    tracer.wait()
    calls = calls_of(tmp_path / "trace", before)
    shutil.rmtree(before)
    tiny_run.write_text(before)
    among = range(len(calls) // 2, len(calls) // 2 + amount(40, len(calls)))
    tried, mistakes = cut_everywhere(calls, before, folder, of_a_run, amount(0, 2), among if amount(1, 0) else None)
    unsynced = [call for call in calls if call.name != "fsync" or ".step-" not in str(call.descriptor)]
    _, found = cut_everywhere(unsynced, before, folder, of_a_run)
    control = "without the fsyncs inside a checkpoint: " + ("torn" if found else "not seen")
    what = f"power cut at each of {len(calls)} calls of training: states of the disk"
    tally("R3", what, len(tried), len(mistakes), control)
    assert mistakes == []
    assert found
