"""What checking a run showed, in the terminal: what is damaged, and what is left."""

import dataclasses
from typing import TYPE_CHECKING, Any

from glassgpt.checkpoint.own_model import CODE
from glassgpt.cli.page import Page
from glassgpt.cli.words import command, number

if TYPE_CHECKING:
    from glassgpt.api.verify import Verified
    from glassgpt.inspection.finding import Finding


def show_checks(page: Page, verified: "Verified") -> None:
    """A line for each thing that was looked at."""
    for check in verified.checks:
        page.row(check.what, check.found)


def show_finding(page: Page, finding: "Finding") -> None:
    page.line(f"\n{finding.what}")
    page.row("seen", finding.evidence)
    page.row("do", finding.do)


def show_what_is_left(page: Page, verified: "Verified") -> None:
    """What can be done with the run as it is."""
    page.line("\nwhat is left")
    page.row("go on", _goes_on(verified))
    page.row("write", _writes(verified))


def next_command(verified: "Verified") -> str:
    """The command to type: go on with a run that is not finished, else write; start anew where neither works."""
    if verified.resumes_from is not None and not verified.finished:
        return _resume(verified)
    if verified.writes_with is not None:
        return _generate(verified)
    return command("train", "book.txt")


def as_values(verified: "Verified") -> dict[str, Any]:
    """For --json."""
    return {
        "directory": str(verified.run.path),
        "intact": not verified.damage,
        "checks": [{"what": c.what, "found": c.found, "intact": not c.wrong} for c in verified.checks],
        "findings": [dataclasses.asdict(finding) for finding in verified.wrong],
        "finished": verified.finished,
        "resumes_from": verified.resumes_from,
        "writes_with": str(verified.writes_with) if verified.writes_with else None,
    }


def _goes_on(verified: "Verified") -> str:
    if verified.finished:
        return "it is finished: all its steps are done and its report is written"
    if verified.resumes_from is None:
        damaged = {finding.name for finding in verified.wrong}
        if "damaged_settings" in damaged:
            return "not before its config.yaml is back"
        if "damaged_code" in damaged:
            return "not before its code.py is back"
        if damaged & {"lost_text", "damaged_text"}:
            return "not before its text is back"
        return "it cannot: no checkpoint is intact"
    again = number(verified.done_again, "step")
    lost = f"; {again} after it {'is' if verified.done_again == 1 else 'are'} done again" if verified.done_again else ""
    return f"from step {verified.resumes_from:,}{lost}: {_resume(verified)}"


def _writes(verified: "Verified") -> str:
    if verified.writes_with is None:
        return "it cannot: no checkpoint has an intact model"
    step = int(verified.writes_with.name.removeprefix("step-"))
    best = ", its best" if verified.writes_with == verified.run.best else ""
    return f"with step {step:,}{best}: {_generate(verified)}"


def _resume(verified: "Verified") -> str:
    return command("train", "--resume", verified.run.path, *_trust(verified))


def _generate(verified: "Verified") -> str:
    run = verified.run
    usual = verified.writes_with == run.best
    return command("generate", run.path if usual else str(verified.writes_with), *_trust(verified))


def _trust(verified: "Verified") -> list[str]:
    return ["--trust-code"] if (verified.run.path / CODE).is_file() else []
