"""`glassgpt doctor`: the machine, and what went wrong in a run."""

import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from glassgpt.checkpoint.run import RunDirectory
from glassgpt.cli.main import run
from glassgpt.inspection.finding import RunRecord
from glassgpt.inspection.run_health import findings
from glassgpt.training.machine_facts import disk_of, group_limits, machine_facts
from glassgpt.training.measure import disk_speed
from glassgpt.training.metrics import Metrics

SMALL = ["--tokenizer", "bytes", "--model.embedding-dim", "32", "--model.n-layers", "1", "--model.n-heads", "2",
         "--model.context-length", "32", "--optim.batch-size", "4"]  # fmt: skip


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, story_file: Path) -> Path:
    """A folder with `text.txt` in it, the working directory of the test."""
    (tmp_path / "text.txt").write_text(story_file.read_text())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("glassgpt.api.texts.DEFAULT_CACHE", tmp_path / "cache")
    return tmp_path


def lines(losses: list[float], **changed: list) -> list[Metrics]:
    """A line of metrics every ten steps."""
    made = [Metrics(10 * n + 1, 100 * n, n, loss, None, 1e-3, 1.0, 1000.0, 10**8) for n, loss in enumerate(losses)]
    for name, values in changed.items():
        made = [replace(line, **{name: value}) for line, value in zip(made, values, strict=True)]
    return made


def found(made: list, predicted: dict | None = None, measured: dict | None = None, **more: object) -> list[str]:
    """What is said of such a run, without that it has no checkpoint."""
    Path("run").mkdir(exist_ok=True)
    record = RunRecord(RunDirectory(Path("run")), made, predicted or {}, measured or {}, 10**6, None)
    return [finding.what for finding in findings(replace(record, **more)) if finding.what != "there is no checkpoint"]


FALLING = [4 * math.exp(-n / 10) + 1 for n in range(60)]


def test_of_a_good_run_nothing_is_said() -> None:
    assert found(lines(FALLING)) == []
    assert found(lines(FALLING, grad_norm=[20.0] * 9 + [1.0] * 51)) == [], "large gradients at first are usual"
    assert found([]) == []


@pytest.mark.parametrize(
    ("made", "what"),
    [
        (lines([5.0] * 60), "the loss never fell"),
        (lines([*FALLING, math.nan]), "the loss is no number"),
        (lines(FALLING, grad_norm=[*[1.0] * 59, math.inf]), "the grad norm is no number"),
        (lines([*FALLING, *[1.0 + n / 10 for n in range(20)]]), "the training loss rose again"),
        (lines([*FALLING[:40], 6.0, *FALLING[40:]]), "the loss has spikes"),
        (lines(FALLING, grad_norm=[*[1.0] * 40, 50.0, *[1.0] * 19]), "the gradients exploded"),
        (lines(FALLING, tokens_per_s=[1000.0] * 30 + [500.0] * 30), "it became slower"),
        (
            lines(FALLING, val_bpb=[None] * 20 + [1.5] + [None] * 38 + [1.7]),
            "it learns its text by heart since step 201",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_is_wrong_with_a_curve_is_said_and_nothing_else(made: list[Metrics], what: str) -> None:
    assert found(made) == [what]


def test_predictions_that_failed_and_a_small_validation_text_are_said() -> None:
    foreseen = {"seconds": 100.0, "memory_bytes": 10**8, "bits_per_byte": 1.5}
    assert found([], foreseen, {"seconds": 105.0, "memory_bytes": 10**8, "bits_per_byte": 1.6}) == []
    assert found([], foreseen, {"seconds": 150.0, "memory_bytes": 3 * 10**8, "bits_per_byte": 2.5}) == [
        "the time was not as predicted", "the memory was not as predicted", "the score was not as predicted",
    ]  # fmt: skip
    assert found([], foreseen, {"seconds": 50.0, "memory_bytes": 10**7, "bits_per_byte": 0.9}) == [], "all better"
    assert found([], validation_bytes=900) == ["the validation text is small"]


@pytest.mark.thorough
def test_a_run_is_examined_as_it_lies_on_the_disk(capsys: pytest.CaptureFixture[str], own_folder: Path) -> None:
    assert run(["train", "text.txt", "--steps", "20", "--out", "a", *SMALL]) == 0
    capsys.readouterr()
    assert run(["doctor", "a", "--json"]) == 0
    whats = {finding["what"] for finding in json.loads(capsys.readouterr().out)["findings"]}
    assert not whats & {"a checkpoint is damaged", "a save was killed", "the run is not finished"}

    (own_folder / "a" / ".step-00000030.partial-7").mkdir()
    weights = own_folder / "a" / "step-00000020" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    assert run(["doctor", "a"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "a checkpoint is damaged" in out
    assert str(Path("a", "step-00000020", "model.safetensors")) in out
    assert "a save was killed" in out
    assert "Next: glassgpt" in out


@pytest.mark.thorough
def test_an_unfinished_run_is_told_how_to_go_on(capsys: pytest.CaptureFixture[str], own_folder: Path) -> None:
    assert run(["train", "text.txt", "--steps", "20", "--out", "a", *SMALL]) == 0
    (own_folder / "a" / "report.json").unlink()
    plan = own_folder / "a" / "plan.json"
    plan.write_text(json.dumps(json.loads(plan.read_text()) | {"plan": [[0, 50]]}))
    capsys.readouterr()
    assert run(["doctor", "a"]) == 0
    out = capsys.readouterr().out
    assert "step 20 of 50" in out
    assert out.endswith("Next: glassgpt train --resume a\n")


def test_a_run_without_a_checkpoint_is_a_finding_and_no_run_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a").mkdir()
    assert run(["doctor", "a"]) == 2
    assert "is no run" in capsys.readouterr().err
    Path("a", "config.yaml").write_text("run: {steps: 3}\n")
    assert run(["doctor", "a"]) == 0
    assert "there is no checkpoint" in capsys.readouterr().out


def test_code_is_trusted_for_a_replay_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--trust-code"]) == 2
    assert "--trust-code lets --verify-resume run" in capsys.readouterr().err


def test_steps_that_made_no_update_are_told() -> None:
    skipped = [{"step": 7, "why": "the loss is nan", "tensor": "loss", "tokens": [[0, 31]]}, {"step": 9}]
    assert found(lines(FALLING), skipped=skipped) == ["steps made no update"]
    (finding,) = findings(RunRecord(RunDirectory(Path("run")), [], {}, {}, None, None, skipped=skipped))
    assert finding.evidence == "2, the first at step 7: the loss is nan"


def test_the_limits_of_control_groups_are_found_in_both_versions(tmp_path: Path) -> None:
    two, one = tmp_path / "two", tmp_path / "one"
    (two / "docker" / "a").mkdir(parents=True)
    (two / "docker" / "a" / "cpu.max").write_text("150000 100000\n")
    (two / "docker" / "a" / "memory.max").write_text("max\n")
    (two / "docker" / "memory.max").write_text("2000000000\n")
    (two / "docker" / "memory.current").write_text("900000000\n")
    (two / "docker" / "memory.stat").write_text("anon 5\ninactive_file 400000000\n")
    (tmp_path / "listed2").write_text("0::/docker/a\n")
    assert group_limits(tmp_path / "listed2", two) == (1.5, 2_000_000_000, 1_500_000_000)

    (one / "cpu" / "b").mkdir(parents=True)
    (one / "memory" / "b").mkdir(parents=True)
    (one / "cpu" / "b" / "cpu.cfs_quota_us").write_text("200000\n")
    (one / "cpu" / "b" / "cpu.cfs_period_us").write_text("100000\n")
    (one / "memory" / "b" / "memory.limit_in_bytes").write_text("1000000000\n")
    (one / "memory" / "b" / "memory.usage_in_bytes").write_text("250000000\n")
    (tmp_path / "listed1").write_text("4:memory:/b\n3:cpu,cpuacct:/b\n1:name=systemd:/\n")
    assert group_limits(tmp_path / "listed1", one) == (2.0, 1_000_000_000, 750_000_000)

    (one / "cpu" / "b" / "cpu.cfs_quota_us").write_text("-1\n")
    assert group_limits(tmp_path / "listed1", one)[0] is None, "no limit"
    assert group_limits(tmp_path / "none", one) == (None, None, None)


def test_the_facts_are_those_of_this_process(tmp_path: Path) -> None:
    facts = machine_facts()
    assert 1 <= facts.usable_cores <= facts.cores == os.cpu_count()
    assert facts.memory is None or 0 < (facts.memory_free or 1) <= facts.memory
    assert disk_of(tmp_path / "not" / "there").free <= shutil.disk_usage(tmp_path).total


def test_measuring_the_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    speed = disk_speed(tmp_path / "runs")
    assert speed.bytes_per_s > 0
    assert speed.links == (os.name != "nt")
    assert not [path for path in tmp_path.iterdir() if path.name not in ("text.txt", "cache")]


@pytest.mark.thorough
def test_the_machine_is_described_and_measured() -> None:
    command = [sys.executable, "-m", "glassgpt", "doctor"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    for part in ("processor", "GFLOP/s", "GB/s", "fsync", "tokens/s", "gpt2-small", "Next: glassgpt train"):
        assert part in shown.stdout, part
    assert "\x1b" not in shown.stdout, "plain lines on a pipe"
    values = json.loads(subprocess.run([*command, "--json"], capture_output=True, text=True, check=True).stdout)
    assert values["flops_per_s"]["fp32"] > 1e8
    assert values["read_bytes_per_s"]["1"] > 1e8
    assert values["training"]["presets"][0]["tokens_per_s"] > 0
