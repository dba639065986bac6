"""`glassgpt doctor DIR`: what looks wrong in a run, and what to do."""

import dataclasses
import json
import sys
from pathlib import Path

from glassgpt.api.run_record import record_of
from glassgpt.checkpoint.own_model import CODE
from glassgpt.checkpoint.run import RunDirectory, find_run
from glassgpt.cli.page import Page
from glassgpt.cli.words import command, number
from glassgpt.inspection.run_health import findings


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
