"""Everything of a run checked against what it was written as: what is damaged, and what can still be done with it."""

import contextlib
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glassgpt.api.texts import cache_folder
from glassgpt.checkpoint.own_model import CODE
from glassgpt.checkpoint.run import RUN_FILE, RunDirectory, holds_a_model
from glassgpt.checkpoint.run_settings import SETTINGS_FILE, own_settings, read_settings
from glassgpt.checkpoint.soundness import refuse_not_finite, refuse_other_code, refuse_unsound
from glassgpt.config import Settings
from glassgpt.data.prepare import open_prepared
from glassgpt.files.atomic import LITTER
from glassgpt.files.reading import read_json
from glassgpt.inspection.finding import Finding
from glassgpt.settings import InputError, without_advice
from glassgpt.text.documents import GIVEN
from glassgpt.training.metrics import read_health, read_metrics

COPY_BACK = "copy it back from where the run was made; nothing else rests on it"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    what: str
    """Such as config.yaml or step-00000010."""
    found: str
    """In a few words; of what is damaged, that it is."""
    wrong: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Verified:
    """What came of it."""

    run: RunDirectory
    checks: tuple[Check, ...]
    finished: bool
    """All steps are done and the report is written."""
    resumes_from: int | None
    """The step that `train --resume` goes on from; None where it cannot."""
    done_again: int
    """Steps after it that were done already."""
    writes_with: Path | None
    """The best checkpoint that has an intact model, else the newest; None where there is none."""

    @property
    def wrong(self) -> list[Finding]:
        return [finding for check in self.checks for finding in check.wrong]

    @property
    def damage(self) -> list[Finding]:
        """Without what a killed save leaves behind, which harms nothing."""
        return [finding for finding in self.wrong if finding.name != "killed_save"]


def verify_run(run: RunDirectory, doing: Callable[[str], None] = lambda what: None) -> Verified:
    """Check all of a run. `doing` is told what is being read. Nothing is changed."""
    report = _object(run.path / "report.json") or {}
    chosen, settings_check = _settings(run)
    checks, text_is_there = [settings_check], False
    if chosen is not None:
        doing("reading the prepared text")
        text_check, text_is_there = _text(chosen, needed=not report)
        checks.append(text_check)
    damage: dict[Path, InputError | None] = {}
    for checkpoint in run.checkpoints():
        doing(f"reading {checkpoint.name}, {_n_bytes(checkpoint) / 1e6:,.0f} MB")
        refusal = _refusal(checkpoint, chosen.run_id if chosen else "")
        if checkpoint.is_dir():  # else a run that is going on has let go of it meanwhile
            damage[checkpoint] = refusal
    sound = [checkpoint for checkpoint in damage if damage[checkpoint] is None]
    with_a_model = [checkpoint for checkpoint in damage if checkpoint in sound or _writes(checkpoint)]
    checks += [_checkpoint(checkpoint, refusal, bool(sound)) for checkpoint, refusal in damage.items()]
    checks += [*_code(sound[-1])] if sound else []
    if not run.checkpoints():
        checks.append(_no_checkpoint(run))
    else:
        checks.append(_record(run))
    lines = read_metrics(run.path / "metrics.jsonl")
    checks += [*_json_lines(run, report.get("steps")), *_json_files(run), *_litter(run)]
    step = int(sound[-1].name.removeprefix("step-")) if sound else None
    code_is_whole = all(finding.name != "damaged_code" for check in checks for finding in check.wrong)
    resumes = step if text_is_there and code_is_whole else None
    reached = max([line.step for line in lines] + [int(run.latest.name.removeprefix("step-")) if run.latest else 0])
    return Verified(
        run=run,
        checks=tuple(checks),
        finished=step is not None and report.get("steps") == step,
        resumes_from=resumes,
        done_again=max(0, reached - resumes) if resumes is not None else 0,
        writes_with=run.best if run.best in with_a_model else next(reversed(with_a_model), None),
    )


def _settings(run: RunDirectory) -> tuple[Settings | None, Check]:
    try:
        return read_settings(run.path), Check(SETTINGS_FILE, "as the run wrote it")
    except InputError as damage:
        check = _damaged(SETTINGS_FILE, "damaged_settings", "the run's settings are damaged", damage)
    try:
        return own_settings(run.path, run.checkpoints())[0], check
    except InputError as damage:
        return None, _damaged(SETTINGS_FILE, "damaged_settings", "the run's settings are damaged", damage)


def _text(chosen: Settings, needed: bool) -> tuple[Check, bool]:
    """The prepared text, and whether it can be had: it may be prepared again as long as the text is there."""
    folder, name = cache_folder(chosen.data) / chosen.prepared, "prepared text"
    missing = [source for source in chosen.text if not _is_there(source)]
    again = f"prepared again from {', '.join(chosen.text)}"
    if not folder.exists() and not missing:
        return Check(name, f"not in {folder.parent} any more: it is {again}, if that is unchanged"), True
    if not folder.exists():
        if not needed:
            return Check(name, "gone, as its text is: the run is finished and can do without"), False
        lost = Finding(
            "lost_text", "the text is gone", f"neither {folder} nor {', '.join(missing)} is there",
            "bring one of them back to its place; until then the run cannot go on, but it can write",
        )  # fmt: skip
        return Check(name, "gone", (lost,)), False
    try:
        prepared = open_prepared(folder)
    except InputError as damage:
        do = f"bring {', '.join(missing)} back" if missing else f"delete {folder}; it is {again}"
        finding = Finding("damaged_text", "the prepared text is damaged", without_advice(damage), do)
        return Check(name, "damaged", (finding,)), not missing
    return Check(name, f"intact, {len(prepared.train) + len(prepared.val):,} tokens"), True


def _is_there(source: str) -> bool:
    return source in ("pydoc", GIVEN) or "*" in source or Path(source).exists()


def _refusal(checkpoint: Path, run_id: str) -> InputError | None:
    try:
        refuse_unsound(checkpoint, run_id)
    except InputError as refusal:
        return refusal
    return None


def _checkpoint(checkpoint: Path, refusal: InputError | None, others_are_sound: bool) -> Check:
    if refusal is None:
        return Check(checkpoint.name, f"intact, every number finite, {_n_bytes(checkpoint) / 1e6:,.1f} MB")
    instead = "else leave it: --resume passes it over" if others_are_sound else "no other is left to go on from"
    do = f"copy it back where there is a copy; {instead}"
    finding = Finding("damaged_checkpoint", "a checkpoint is damaged", without_advice(refusal), do)
    return Check(checkpoint.name, "damaged", (finding,))


def _writes(checkpoint: Path) -> bool:
    """Whether the model in a checkpoint is intact, whatever is wrong with the rest."""
    try:
        refuse_not_finite(checkpoint)
    except (InputError, ValueError):
        return False
    return holds_a_model(checkpoint)


def _code(checkpoint: Path) -> Iterator[Check]:
    """The code of a run that was trained with some of its own."""
    if (checkpoint.parent / CODE).is_file():
        try:
            refuse_other_code(checkpoint)
            yield Check(CODE, "as the run was begun with it")
        except InputError as damage:
            yield _damaged(CODE, "damaged_code", "the run's code is damaged", damage)


def _no_checkpoint(run: RunDirectory) -> Check:
    finding = Finding(
        "no_checkpoint", "there is no checkpoint", f"no folder step-... in {run.path}",
        "the run ended before its first save: start it anew",
    )  # fmt: skip
    return Check("checkpoints", "none", (finding,))


def _record(run: RunDirectory) -> Check:
    """run.json, which names the best and the latest checkpoint."""
    record, path = _object(run.path / RUN_FILE), run.path / RUN_FILE
    if record is None:
        return _unreadable(RUN_FILE, f"{path} is gone or holds no JSON object, so the best checkpoint is not known")
    named = {name: run.recorded(name) for name in ("best", "latest") if name in record}
    gone = next((name for name, checkpoint in named.items() if checkpoint is None), None)
    if gone is not None:
        return _unreadable(RUN_FILE, f"{path} names a {gone} checkpoint that is not there")
    return Check(RUN_FILE, ", ".join(f"{name}: {checkpoint.name}" for name, checkpoint in named.items() if checkpoint))


def _json_lines(run: RunDirectory, steps: Any) -> Iterator[Check]:
    """The logs: every line read, in the order of its steps; metrics.jsonl as far as the run came."""
    for name in ("metrics.jsonl", "health.jsonl", "skipped.jsonl"):
        path = run.path / name
        if path.exists() and not path.is_file():
            yield _unreadable(name, f"{path} is no file")
            continue
        if name == "metrics.jsonl":
            read = [line.step for line in read_metrics(path)]
        else:
            read = [line["step"] for line in read_health(path)]
        n_whole = path.read_bytes().count(b"\n") if path.is_file() else 0
        back = next((after for before, after in itertools.pairwise(read) if after <= before), None)
        if (n_bad := n_whole - len(read)) > 0:
            yield _unreadable(name, f"{n_bad:,} of {n_whole:,} lines of {path} make no sense")
        elif back is not None:
            yield _unreadable(name, f"{path} is out of order: step {back:,} comes after a later one or itself")
        elif name == "metrics.jsonl" and isinstance(steps, int) and (not read or read[-1] != steps):
            ends = f"ends at step {read[-1]:,}" if read else "has no lines"
            yield _unreadable(name, f"{path} {ends}, but the run at step {steps:,}")
        elif read:
            yield Check(name, f"{len(read):,} lines in order, to step {read[-1]:,}")


def _json_files(run: RunDirectory) -> Iterator[Check]:
    for name in ("plan.json", "report.json"):
        if (run.path / name).exists():
            whole = _object(run.path / name) is not None
            yield Check(name, "read") if whole else _unreadable(name, f"{run.path / name} holds no JSON object")


def _litter(run: RunDirectory) -> Iterator[Check]:
    found = [path for path in run.path.iterdir() if LITTER.fullmatch(path.name)]
    if found:
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        finding = Finding(
            "killed_save", "a save was killed", f"{found[0].name}{more}, {sum(map(_n_bytes, found)) / 1e6:,.1f} MB",
            "nothing is lost; --resume removes it, or delete it by hand (unless the run is still saving)",
        )  # fmt: skip
        yield Check("leftovers", "of a save that was killed", (finding,))


def _object(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file, without NaN; None where there is none that can be read."""
    try:
        values = read_json(path)
        json.dumps(values, allow_nan=False)
    except (OSError, ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None


def _unreadable(name: str, why: str) -> Check:
    return Check(name, "damaged", (Finding("unreadable_file", "a record of the run is damaged", why, COPY_BACK),))


def _damaged(name: str, kind: str, what: str, damage: InputError) -> Check:
    evidence = without_advice(damage)
    do = str(damage).removeprefix(evidence).removeprefix(": ")
    return Check(name, "damaged", (Finding(kind, what, evidence, do),))


def _n_bytes(path: Path) -> int:
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    with contextlib.suppress(FileNotFoundError):  # a run that is going on has let go of it
        return sum(file.stat().st_size for file in files)
    return 0
