"""What a run left, read for the doctor: its curves, its health, what was predicted and measured, its text."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from glassgpt.api.texts import cache_folder
from glassgpt.checkpoint.run import RunDirectory
from glassgpt.checkpoint.run_settings import read_settings
from glassgpt.data.shards import read_shard
from glassgpt.inspection.finding import Finding, RunRecord, number, read_json
from glassgpt.inspection.text_health import TextHealth
from glassgpt.settings import InputError
from glassgpt.training.metrics import read_health, read_metrics

COUNTED = ("bytes", "characters", "val_characters", "train_tokens", "val_tokens", "vocab_size")
"""In prepared.json."""


def record_of(run: RunDirectory, damage: Sequence[Finding] = ()) -> RunRecord:
    """What the run left, read; `damage` is what `verify_run` found wrong with its files."""
    lines = read_metrics(run.path / "metrics.jsonl")
    prepared = _prepared_text(run.path)
    facts = _facts(prepared) if prepared else {}
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
        damage=damage,
        skipped=read_health(run.path / "skipped.jsonl"),
    )


def _facts(prepared: Path) -> dict[str, Any]:
    """What is known of the prepared text; empty where that is gone or was altered."""
    facts = read_json(prepared / "prepared.json")
    known = all((number(facts, name) or 0) > 0 for name in COUNTED)
    return facts if known and isinstance(facts.get("tokenizer"), str) else {}


def _prepared_text(run: Path) -> Path | None:
    """Where the run's prepared text lies, or lay."""
    try:
        chosen = read_settings(run)
    except InputError:
        return None
    return cache_folder(chosen.data) / chosen.prepared


def _health_of_text(prepared: Path, facts: dict[str, Any]) -> TextHealth | None:
    try:
        return TextHealth.of(read_shard(prepared / "train.shard")[0], facts)
    except InputError:
        return None
