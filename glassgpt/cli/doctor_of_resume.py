"""`glassgpt doctor DIR --verify-resume`: whether a run's last interval comes out the same a second time."""

import dataclasses
import json
import sys
from typing import TYPE_CHECKING

from glassgpt.checkpoint.own_model import CODE
from glassgpt.checkpoint.run import find_run
from glassgpt.cli.page import Page
from glassgpt.cli.process import interruptible_imports
from glassgpt.cli.words import command, number

if TYPE_CHECKING:
    from glassgpt.api.replay import Replay


def doctor_of_resume(directory: str | None, trust_code: bool, as_json: bool) -> int:
    """Print what came of it; 1 where it differs though it should not. Raises InputError where nothing is replayed."""
    page = Page(sys.stderr if as_json else sys.stdout)
    run = find_run(directory)
    page.doing("loading PyTorch")
    with interruptible_imports():
        from glassgpt.api.replay import replay
    try:
        found = replay(run, trust_code=trust_code, doing=page.doing)
    finally:
        page.doing("")
    status = 0 if found.identical or found.elsewhere else 1
    if as_json:
        values = {"directory": str(run.path), "identical": found.identical} | dataclasses.asdict(found)
        print(json.dumps(values))
        return status
    steps = f"steps {found.first + 1:,} to {found.last:,}" if found.last > found.first + 1 else f"step {found.last:,}"
    page.line(f"{run.path}: {steps} replayed, {number(found.n_lines, 'line')} of metrics.jsonl compared")
    for why in found.passed_over:
        page.row("passed over", why)
    _show(page, found)
    trust = ["--trust-code"] if (run.path / CODE).is_file() else []
    on = ["generate"] if (run.path / "report.json").is_file() else ["train", "--resume"]
    page.line(f"\nNext: {command(*([*on, run.path, *trust] if found.identical else ['doctor', run.path]))}")
    return status


def _show(page: Page, found: "Replay") -> None:
    if found.identical:
        equal = f"; weights and optimiser of step {found.weights_at:,} equal bit for bit" if found.weights_at else ""
        page.row("identical", f"every logged loss, gradient norm and learning rate{equal}")
        if found.elsewhere:
            page.row("although", f"it was computed elsewhere: {found.elsewhere}")
        return
    page.row("differs", f"from step {found.differs_at:,} on: {found.difference}")
    if found.only_the_log:
        page.row("seen", f"the weights of step {found.weights_at:,} are equal bit for bit, so the line was altered")
        page.row("do", "nothing for the model's sake: metrics.jsonl alone is wrong, training goes on from the weights")
    elif found.elsewhere:
        page.row("seen", f"not comparable bit for bit: {found.elsewhere}")
        page.row("do", "resuming here works, but not to the same bits; replay it where it was trained to be sure")
    elif (found.difference or "").startswith("lr "):
        page.row("do", "if the run was made longer or shorter after that step, this is why; else its settings changed")
    else:
        elsewhere = "code of your own that draws unseeded numbers or looks at a clock, or memory that fails"
        page.row("do", f"look for what a step takes from elsewhere: {elsewhere}")
