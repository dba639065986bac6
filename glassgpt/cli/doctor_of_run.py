"""`glassgpt doctor DIR`: what looks wrong in a run, and what to do."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from glassgpt import settings
from glassgpt.checkpoint.own_model import CODE
from glassgpt.checkpoint.run import RunDirectory, find_run
from glassgpt.cli.page import Page
from glassgpt.cli.words import command, number
from glassgpt.config import Settings
from glassgpt.data.shards import read_shard
from glassgpt.inspection.finding import RunRecord, read_json
from glassgpt.inspection.run_health import findings
from glassgpt.inspection.text_health import TextHealth
from glassgpt.settings import InputError
from glassgpt.training.metrics import read_health, read_metrics


def doctor_of_run(directory: str, as_json: bool) -> int:
    """Print what was found. Raises InputError where there is no run."""
    begun = (Path(directory) / "config.yaml").is_file()  # perhaps without a checkpoint yet
    record = record_of(RunDirectory(Path(directory)) if begun else find_run(directory))
    path, found = record.run.path, findings(record)
    if as_json:
        values = {"directory": str(path), "findings": [dataclasses.asdict(finding) for finding in found]}
        print(json.dumps(values))
        return 0
    page = Page(sys.stdout)
    steps = f"{record.lines[-1].step:,} steps" if record.lines else "no steps"
    page.line(f"{path}: {steps}, {number(len(record.run.checkpoints()), 'checkpoint')}")
    for finding in found:
        page.line(f"\n{finding.what}")
        page.row("seen", finding.evidence)
        page.row("do", finding.do)
    if not found:
        page.line("nothing looks wrong")
    resumes = any("--resume" in finding.do for finding in found) and record.run.checkpoints()
    damaged = any("checkpoint" in finding.name for finding in found)
    after = ["train", "--resume", path] if resumes else ["train", "book.txt"] if damaged else ["generate", path]
    if path in after and (path / CODE).is_file():
        after.append("--trust-code")
    page.line(f"\nNext: {command(*after)}")
    return 0


def record_of(run: RunDirectory) -> RunRecord:
    """What the run left, read."""
    lines = read_metrics(run.path / "metrics.jsonl")
    prepared = _prepared_text(run.path)
    facts = read_json(prepared / "prepared.json") if prepared else {}
    per_byte = facts.get("bytes", 0) / max(1, facts.get("characters", 0))
    return RunRecord(
        run=run,
        lines=lines,
        predicted=read_json(run.path / "plan.json"),
        measured=read_json(run.path / "report.json"),
        validation_bytes=int(per_byte * facts["val_characters"]) if facts else None,
        epochs=lines[-1].tokens / max(1, facts["train_tokens"]) if facts and lines else None,
        health=read_health(run.path / "health.jsonl"),
        text=_health_of_text(prepared, facts) if prepared and facts else None,
    )


def _prepared_text(run: Path) -> Path | None:
    """Where the run's prepared text lies, or lay."""
    from glassgpt.api.texts import cache_folder

    try:
        chosen = Settings.from_dict(settings.read_yaml(run / "config.yaml"))
    except InputError:
        return None
    return cache_folder(chosen.data) / chosen.prepared


def _health_of_text(prepared: Path, facts: dict[str, Any]) -> TextHealth | None:
    try:
        return TextHealth.of(read_shard(prepared / "train.shard")[0], facts)
    except InputError:
        return None
