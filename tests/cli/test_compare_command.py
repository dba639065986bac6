"""`glassgpt compare` as a user types it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest
import torch

from glassgpt.cli.main import run
from glassgpt.text.stories import write_stories

BASE = """
text: text.txt
model: {architecture: gpt2, embedding_dim: 32, n_heads: 2, n_layers: 1, context_length: 32}
data: {tokenizer: bytes, cache: cache}
optim: {batch_size: 8, warmup: 5, learning_rate: 3e-3}
run: {threads: 1}
"""


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[None, None, None]:
    """A folder with `text.txt` and `base.yaml` in it; the one thread is not left to other tests."""
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("\n".join(write_stories(60, seed=1)))
    Path("base.yaml").write_text(BASE)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_the_table_says_what_is_worse_and_what_to_type_next(capsys: pytest.CaptureFixture[str]) -> None:
    code = run(["compare", "base.yaml", "--with", "optim.learning_rate=3e-5", "--seeds", "3", "--steps", "20"])
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    assert "6/6 optim.learning_rate=3e-5, seed 3: " in out
    row = next(line for line in out.splitlines() if line.startswith(" optim.learning_rate=3e-5"))
    assert "worse" in row
    assert "verdict: p below 0.01" in out
    assert out.endswith("\nNext: glassgpt train --config base.yaml\n")
    assert "\x1b" not in out, "plain lines on a pipe"
    assert not list(Path.cwd().glob("**/step-*")), "the runs are deleted"


@pytest.mark.thorough
def test_json_is_one_object_and_several_changes_make_one_variant(capsys: pytest.CaptureFixture[str]) -> None:
    change = "optim.learning_rate=1e-3,model.n_layers=2"
    assert run(["compare", "base.yaml", "--with", change, "--seeds", "2", "--tokens", "600", "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    base, deeper = found["variants"]
    assert (base["name"], deeper["name"], deeper["verdict"]) == ("base", change, "cannot tell")
    assert deeper["scores"][0]["parameters"] > base["scores"][0]["parameters"]
    assert deeper["scores"][0]["tokens"] == 768, "rounded up to whole steps"
    assert deeper["low"] <= deeper["mean"] <= deeper["high"]
    assert "4/4 base, seed 2" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["base.yaml", "--steps", "3"], "two or more settings"),
        (["base.yaml", "base.yaml"], "give one of --steps, --tokens and --minutes"),
        (["base.yaml", "base.yaml", "--steps", "3", "--seeds", "1"], "must be at least 2"),
        (["base.yaml", "none.yaml", "--steps", "3"], "cannot read settings"),
        (["base.yaml", "--with", "optim.lr=1", "--steps", "3"], "did you mean optim.learning_rate"),
        (["base.yaml", "--with", "learning_rate=1", "--steps", "3"], "write --with section.field=value"),
        (["base.yaml", "--with", "optim.learning_rate", "--steps", "3"], "has no value"),
        (["base.yaml", "base.yaml", "--steps", "3", "--text", "none.txt"], "none.txt"),
        (["base.yaml", "--with", "run.code=none.py", "--steps", "3"], "cannot read the code none.py"),
    ],
)
def test_a_wrong_command_line_gets_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert run(["compare", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("glassgpt: ")
    assert err.count("\n") == 1
    assert says in err


def test_code_is_opened_only_with_leave(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.py").write_text("from glassgpt.model import GPTModel\nclass Model(GPTModel): pass\n")
    assert run(["train", "--config", "base.yaml", "--run.code", "mine.py", "--steps", "2", "--out", "run"]) == 0
    for command in (["generate", "run", "--max-new-tokens", "3"], ["eval", "run"]):
        capsys.readouterr()
        assert run(command) == 2
        assert "--trust-code" in capsys.readouterr().err
        assert run([*command, "--trust-code"]) == 0
    assert run(["train", "--resume", "run", "--steps", "3"]) == 2
    assert run(["train", "--resume", "run", "--steps", "3", "--trust-code"]) == 0


@pytest.mark.thorough
def test_ctrl_c_shows_what_is_finished() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "glassgpt", "compare", "base.yaml", "base.yaml", "--steps", "300", "--seeds", "50"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("4/100"):
            break
    for _ in range(20):  # as a user would, press again where nothing happens
        os.kill(process.pid, signal.SIGINT)
        try:
            rest, errors = process.communicate(timeout=3)
            break
        except subprocess.TimeoutExpired:
            continue
    assert process.returncode == 130, errors
    assert "of 100 runs" in rest
    assert "cannot tell" in rest
    assert "Traceback" not in errors
