"""A run's directory: its checkpoints, which of them is the best and which the latest; and what a DIR means.

`run.json` is what counts; `best` and `latest` beside it are links for people and other tools. No torch here.
"""

import json
import math
import os
import re
import shlex
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glassgpt.checkpoint.pickled import refusal_of_pickle
from glassgpt.checkpoint.run_settings import SETTINGS_FILE, read_settings
from glassgpt.checkpoint.soundness import refuse_unsound
from glassgpt.files.atomic import (
    LITTER,
    discard,
    link,
    make_directory,
    remove_litter,
    sync_directory,
    write_atomically,
)
from glassgpt.files.lock import lock
from glassgpt.files.manifest import CONFIG, verify_checkpoint
from glassgpt.files.reading import read_bytes, read_json
from glassgpt.settings import InputError, is_unicode, nearest, without_advice

RUNS = Path("runs")
"""Where runs live, below the working directory."""
RUN_FILE = "run.json"
KEPT = 3
"""Checkpoints that a run keeps, at most: the best, the latest, the one before it. While it saves there is one more."""
_BEFORE_A_CHECKPOINT = {
    SETTINGS_FILE, "plan.json", "code.py", "metrics.jsonl", "health.jsonl", "skipped.jsonl", "samples.txt",
}  # fmt: skip
"""What a run may have written by then."""
_STEP = re.compile(r"step-(\d{8,})")


@dataclass(frozen=True, kw_only=True)
class ResumePoint:
    """Where training goes on, and why not from a later checkpoint (one line each)."""

    checkpoint: Path
    passed_over: tuple[str, ...]


class RunDirectory:
    """The directory of one run. One process writes to it at a time: the one that holds it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._release: Callable[[], object] = lambda: None

    def hold(self) -> None:
        """Keep others from training here until `release`, or until this object is gone.

        Raises InputError where another process does, which may be saving just now.
        """
        try:
            descriptor = lock(self.path)
        except BlockingIOError:
            raise InputError(f"another process is training in {self.path}: let it end, or stop it first") from None
        if descriptor is not None:
            self._release = weakref.finalize(self, os.close, descriptor)

    def release(self) -> None:
        """Let others train here again."""
        self._release()

    def checkpoint_path(self, step: int) -> Path:
        """Where the checkpoint of a step belongs."""
        return self.path / f"step-{step:08d}"

    def checkpoints(self) -> list[Path]:
        """Every checkpoint, earliest step first."""
        found = [path for path in _folders(self.path) if _STEP.fullmatch(path.name)]
        return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))

    @property
    def best(self) -> Path | None:
        """The checkpoint with the lowest bits per byte on the validation text, if one was evaluated."""
        return self.recorded("best")

    @property
    def latest(self) -> Path | None:
        """The checkpoint that was recorded last; where there is no record, the one of the highest step."""
        return self.recorded("latest") or next(reversed(self.checkpoints()), None)

    def record(self, step: int, val_bpb: float | None) -> None:
        """Note that the checkpoint of `step` was saved, and later again with what its evaluation gave.

        Updates run.json and the two links. Raises SaveError where the system refuses.
        """
        if val_bpb is not None and not math.isfinite(val_bpb):
            val_bpb = None
        values = self._read()
        values["latest"] = {"step": step, "val_bpb": val_bpb}
        if val_bpb is not None and self._beats_best(step, val_bpb):
            values["best"] = values["latest"]
        write_atomically(self.path / RUN_FILE, (json.dumps(values, indent=2) + "\n").encode())
        for name in ("best", "latest"):
            if name in values:
                link(self.path / name, self.checkpoint_path(values[name]["step"]).name)

    def prune(self) -> None:
        """Remove every checkpoint but the best, the latest and the one before it: should the latest be damaged one
        day, that loses an interval and not the run."""
        there, latest = self.checkpoints(), self.latest
        before = there[: there.index(latest)] if latest in there else []
        kept = (self.best, latest, *before[-1:])
        for checkpoint in there:
            if checkpoint not in kept:
                discard(checkpoint)

    def resume_point(self, run_id: str = "") -> ResumePoint:
        """The newest checkpoint that `refuse_unsound` has nothing against. Raises InputError if there is none."""
        passed_over: list[str] = []
        for checkpoint in reversed(self.checkpoints()):
            try:
                refuse_unsound(checkpoint, run_id)
            except InputError as damage:
                passed_over.append(without_advice(damage))
                continue
            return ResumePoint(checkpoint=checkpoint, passed_over=tuple(passed_over))
        why = f" ({passed_over[0]})" if passed_over else ""
        run, file = (shlex.quote(str(path)) for path in (self.path, self.path / SETTINGS_FILE))
        instead = f"`glassgpt data verify {run}` says what is left; `glassgpt train --config {file}` starts anew"
        raise InputError(f"{self.path} has no checkpoint to go on from{why}: {instead}")

    def model(self) -> Path:
        """The checkpoint that the run stands for: its best, else the newest intact one. Raises InputError."""
        if self.best:
            return self.best
        damage = None
        for checkpoint in reversed(self.checkpoints()):
            try:
                verify_checkpoint(checkpoint, trainer=False)
            except InputError as error:
                damage = damage or error
                continue
            return checkpoint
        raise damage or refusal_of_pickle(self.path) or InputError(
            f"{self.path} is no model: it is neither a run with a checkpoint in it nor a model directory, "
            f"which holds {CONFIG}, model.safetensors and tokenizer.json"
        )

    def _beats_best(self, step: int, val_bpb: float) -> bool:
        best = self._read().get("best")
        if best is None or self.best is None or best["val_bpb"] is None:
            return True
        return best["step"] == step or val_bpb < best["val_bpb"]

    def recorded(self, name: str) -> Path | None:
        """The checkpoint that run.json names as the "best" or the "latest"; None where it is not there."""
        entry = self._read().get(name)
        path = self.checkpoint_path(entry["step"]) if entry else None
        return path if path and path.is_dir() else None

    def _read(self) -> dict[str, Any]:
        """run.json without entries that make no sense; empty where there is none yet."""
        try:
            values = read_json(self.path / RUN_FILE)
        except (OSError, ValueError):
            return {}
        entries = values.items() if isinstance(values, dict) else ()
        return {name: entry for name, entry in entries if _is_entry(entry) or name not in ("best", "latest")}


def new_run(out: str | None, name: str) -> RunDirectory:
    """Make the directory of a new run: `out`, else runs/<name>, runs/<name>-2, ...: the first that is free. Holds it.

    Raises InputError where `out` holds something or cannot be made. What a run left that was killed before its first
    checkpoint is nothing that one could go on with, so the new one may have its place.
    """
    if out is not None and not is_unicode(out):
        raise InputError(f"--out {out} is no UTF-8, and safetensors opens no such path: choose another name")
    try:
        if out is not None:
            run = RunDirectory(Path(out))
            make_directory(run.path)
            run.hold()
            if _never_saved(run.path):
                remove_litter(run.path)
            elif any(run.path.iterdir()):
                run.release()
                raise InputError(f"--out {out} is not empty: choose another, or go on with --resume {shlex.quote(out)}")
            return run
        make_directory(RUNS)
        n = 1
        while True:
            path = RUNS / (name if n == 1 else f"{name}-{n}")
            try:
                path.mkdir()
            except FileExistsError:
                n += 1
                continue
            sync_directory(RUNS)
            run = RunDirectory(path)
            run.hold()
            return run
    except OSError as error:
        why = f"cannot make the directory {error.filename}: {error.strerror}"
        raise InputError(f"{why}; choose another with --out") from None


def find_checkpoint(directory: str | Path | None) -> Path:
    """The model directory that `directory` stands for.

    It may be a run (its best checkpoint), a checkpoint, a run's `best` or `latest`, or any Hugging Face
    directory; None is the newest run. Raises InputError where it is none of them.
    """
    if directory is None:
        return _newest_run().model()
    path = _existing(Path(directory))
    return path if (path / CONFIG).is_file() else RunDirectory(path).model()


def find_run(directory: str | Path | None) -> RunDirectory:
    """The run that `directory`, itself a run or a checkpoint in one, stands for; None is the newest run."""
    if directory is None:
        return _newest_run()
    path = _existing(Path(directory))
    run = RunDirectory(path.parent if _STEP.fullmatch(path.name) else path)
    if not run.checkpoints() and (run.path / SETTINGS_FILE).is_file():
        anew = f"glassgpt train --config {shlex.quote(str(run.path / SETTINGS_FILE))}"
        raise InputError(f"{path} ended before its first checkpoint, with nothing to go on from: begin with {anew}")
    if not run.checkpoints():
        raise InputError(f"{path} is no run with a checkpoint in it: give a directory that `glassgpt train` made")
    return run


def begun_run(directory: str | Path | None) -> RunDirectory:
    """As `find_run`; a run that has its settings, but no checkpoint yet, is one too."""
    if directory is not None and (Path(directory) / SETTINGS_FILE).is_file():
        return RunDirectory(Path(directory))
    return find_run(directory)


def holds_a_model(checkpoint: Path) -> bool:
    """Whether the model in it is intact."""
    try:
        verify_checkpoint(checkpoint, trainer=False)
    except InputError:
        return False
    return True


def intact_instead(checkpoint: Path) -> Path | None:
    """The newest intact model of the same run, where `checkpoint` is damaged; None where it is not, or there is none.

    Reads all of them.
    """
    run = RunDirectory(checkpoint.parent)
    if checkpoint not in run.checkpoints() or holds_a_model(checkpoint):
        return None
    return next((other for other in reversed(run.checkpoints()) if holds_a_model(other)), None)


def settings_of_run(directory: Path) -> Path | None:
    """The settings of a run, or of the run that a checkpoint lies in; None where it is neither."""
    places = (directory / SETTINGS_FILE, directory.parent / SETTINGS_FILE)
    return next((place for place in places if place.exists()), None)


def _existing(path: Path) -> Path:
    """The directory at `path`; `best` and `latest` are followed, be they links or text files."""
    try:
        if path.is_symlink():
            path = path.parent / path.readlink()
        elif path.is_file() and path.name in ("best", "latest"):
            path = path.parent / Path(read_bytes(path, 1000).decode().strip()).name
        if path.is_dir():
            return path
    except (OSError, ValueError):  # an unreadable place, or a name that can be none
        raise InputError(f"cannot open the directory {path}") from None
    if path.exists():
        raise InputError(f"{path} is a file: give the directory of a run or a model")
    folders = [*_folders(path.parent), *_folders(RUNS)]
    near = nearest(path.name, [folder.name for folder in folders])
    hint = next((f"did you mean {folder}?" for folder in folders if folder.name == near), None)
    raise InputError(f"no directory {path}: " + (hint or "give a run, a checkpoint or a model directory"))


def model_name(directory: Path) -> str:
    """What people call the model in `directory`: the name of its run, or its folder's where it is of none."""
    place = directory.resolve()
    named = place.parent if (place.parent / RUN_FILE).is_file() else place
    return os.fsencode(named.name).decode("utf-8", errors="replace")


def _never_saved(path: Path) -> bool:
    """Whether all that lies there, if anything does, is of a run that has no checkpoint yet."""
    names = {child.name for child in path.iterdir() if not LITTER.fullmatch(child.name)}
    if not names <= _BEFORE_A_CHECKPOINT:
        return False
    try:
        if names:
            read_settings(path)
    except InputError:  # somebody's own file
        return False
    return True


def _newest_run() -> RunDirectory:
    runs = [run for run in map(RunDirectory, _folders(RUNS)) if run.checkpoints()]
    if not runs:
        raise InputError(f"no run in {RUNS}/ yet: make one with `glassgpt train`, or give a model directory")
    return max(runs, key=_last_change)


def _last_change(run: RunDirectory) -> float:
    record = run.path / RUN_FILE
    return (record if record.is_file() else run.path).stat().st_mtime


def _folders(path: Path) -> list[Path]:
    try:
        return sorted(child for child in path.iterdir() if child.is_dir() and not child.name.startswith("."))
    except OSError:
        return []


def _is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and type(entry.get("step")) is int
        and 0 <= entry["step"] < 2**63
        and "val_bpb" in entry
        and (entry["val_bpb"] is None or (isinstance(entry["val_bpb"], float) and math.isfinite(entry["val_bpb"])))
    )
