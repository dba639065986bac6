"""`doctor` names what was done to a run, and has nothing to say of runs that are well."""

import json
from pathlib import Path
from typing import Any

import pytest
from planted import FAULTS, HEALTHY

import glassgpt
from glassgpt.cli.main import run

OF_THE_MACHINE = {"slower", "prediction"}
"""Findings that other work on the machine can cause."""


def said_of(planted: dict[str, Any], folder: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """What is found in such a run, by name."""
    settings = dict(planted)
    if "code" in settings:
        (folder / "own.py").write_text(settings.pop("code"))
        settings["run"] = settings["run"] | {"code": str(folder / "own.py")}
    text = folder / "text.txt"
    text.write_text(settings.pop("text")(), encoding="utf-8")
    glassgpt.train(text, out=folder / "run", data={"cache": str(folder / "cache")}, **settings)
    capsys.readouterr()
    assert run(["doctor", str(folder / "run"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["findings"]
    return {finding["name"]: f"{finding['what']}: {finding['evidence']}" for finding in found}


@pytest.mark.thorough
@pytest.mark.parametrize("name", FAULTS)
def test_the_planted_fault_is_named(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert name in said_of(FAULTS[name], tmp_path, capsys)


@pytest.mark.thorough
@pytest.mark.parametrize("name", HEALTHY)
def test_of_a_run_that_is_well_nothing_is_said(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = said_of(HEALTHY[name], tmp_path, capsys)
    assert {finding: what for finding, what in said.items() if finding not in OF_THE_MACHINE} == {}
