"""`glassgpt export`: what it says of the directory that it wrote, and which command it and its followers name next."""

import json
from pathlib import Path

import pytest
import torch

from glassgpt.checkpoint.directory import save_checkpoint
from glassgpt.checkpoint.run import RunDirectory
from glassgpt.checkpoint.run_settings import write_settings
from glassgpt.cli.main import run
from glassgpt.config import GPTConfig, Settings
from glassgpt.model import GPTModel, initialise
from glassgpt.text.kinds import train_tokenizer

BYTES = train_tokenizer("bytes", [])
ALONE = "opens in     GlassGPT alone; without --quantize, in any Hugging Face tool"


@pytest.fixture(autouse=True)
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder to work in, with a model in the directory `source`."""
    monkeypatch.chdir(tmp_path)
    shape = {"context_length": 32, "embedding_dim": 64, "n_heads": 2, "n_layers": 1, "vocab_size": BYTES.vocab_size}
    model = GPTModel(GPTConfig.from_dict(shape))
    initialise(model, torch.Generator().manual_seed(0))
    save_checkpoint(Path("source"), model, BYTES)


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str]:
    """What a command that succeeds writes to standard output and to standard error."""
    assert run([*arguments]) == 0
    return capsys.readouterr()


def test_what_opens_a_quantised_export_is_said_and_of_a_plain_one_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert ALONE in printed(capsys, "export", "source", "--out", "small", "--quantize", "int4")[0]
    plain = printed(capsys, "export", "source", "--out", "full")[0]
    assert "opens in" not in plain
    assert "rounding" not in plain


def test_weights_that_were_rounded_are_said_to_stay_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert "rounding" not in printed(capsys, "export", "source", "--out", "small", "--quantize", "int8")[0]
    out = printed(capsys, "export", "small", "--out", "full")[0]
    assert "the largest difference is 0," in out
    assert "the weights stay rounded to int8, as they were" in out


def test_a_replaced_export_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert "replaced" not in printed(capsys, "export", "source", "--out", "out", "--quantize", "int8")[0]
    for kind, before in (("int4", "int8"), ("int8", "int4")):
        out = printed(capsys, "export", "source", "--out", "out", "--quantize", kind)[0]
        assert out.count(f"replaced     the {before} export that was there\n") == 1
    printed(capsys, "export", "source", "--out", "out")
    assert "replaced     the fp32 export" in printed(capsys, "export", "source", "--out", "out")[0]


def test_where_no_text_was_kept_the_next_command_asks_for_one(capsys: pytest.CaptureFixture[str]) -> None:
    printed(capsys, "export", "source", "--out", "small", "--quantize", "int8")
    err = printed(capsys, "generate", "small", "--max-new-tokens", "3")[1]
    assert err.endswith("Next: glassgpt eval small --data FILE\n")
    Path("FILE").write_text("Once upon a time")
    printed(capsys, "eval", "small", "--data", "FILE")


def test_json_of_a_page_names_the_texts_that_are_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Of the model of a run; nobody knows those of another."""
    Path("run").mkdir()
    Path("source").rename("run/step-00000001")
    RunDirectory(Path("run")).record(1, 2.0)
    write_settings(Path("run"), Settings.from_dict({"text": "/home/me/diary.txt"}))
    values = json.loads(printed(capsys, "export", "run", "--format", "html", "--out", "run.html", "--json")[0])
    assert values["texts"] == ["diary.txt"]
    assert json.loads(printed(capsys, "export", "run", "--out", "alone", "--json")[0])["texts"] == []


def test_a_page_is_written_where_nothing_is_lost(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.html").write_text("mine")
    for out, why in (("mine.html", "is no page of GlassGPT"), ("missing/page.html", "no folder missing for page.html")):
        assert run(["export", "source", "--format", "html", "--out", out]) == 2
        said = capsys.readouterr().err
        assert why in said
        assert len(said.splitlines()) == 1
    assert Path("mine.html").read_text() == "mine"
    assert not Path("missing").exists()
