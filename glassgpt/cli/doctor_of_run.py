"""`glassgpt doctor DIR`: what looks wrong in a run, and what to do."""

import dataclasses
import json
import sys

from glassgpt.api.run_record import record_of
from glassgpt.api.verify import verify_run
from glassgpt.checkpoint.run import begun_run
from glassgpt.cli.page import Page
from glassgpt.cli.verified import as_values, next_command, show_finding, show_what_is_left
from glassgpt.cli.words import number
from glassgpt.inspection.run_health import findings


def doctor_of_run(directory: str, as_json: bool) -> int:
    """Print what was found. Raises InputError where there is no run."""
    page = Page(sys.stderr if as_json else sys.stdout)
    verified = verify_run(begun_run(directory), page.doing)
    page.doing("")
    record = record_of(verified.run, verified.wrong)
    path, found = record.run.path, findings(record)
    if verified.resumes_from is None:  # so it cannot be told to go on
        found = [finding for finding in found if finding.name != "unfinished"]
    if as_json:
        print(json.dumps(as_values(verified) | {"findings": [dataclasses.asdict(finding) for finding in found]}))
        return 0
    steps = f"{record.lines[-1].step:,} steps" if record.lines else "no steps"
    page.line(f"{path}: {steps}, {number(len(record.run.checkpoints()), 'checkpoint')}")
    for finding in found:
        show_finding(page, finding)
    if not found:
        page.line("nothing looks wrong")
    if verified.damage:
        show_what_is_left(page, verified)
    page.line(f"\nNext: {next_command(verified)}")
    return 0
