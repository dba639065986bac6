"""`glassgpt inspect` as a user types it."""

import json
import math
import re
from pathlib import Path

import pytest
import torch
from pseudo_terminal import Terminal

import glassgpt
from glassgpt.checkpoint.directory import save_checkpoint
from glassgpt.checkpoint.run import RunDirectory
from glassgpt.cli.main import run
from glassgpt.config import GPTConfig
from glassgpt.model import GPTModel
from glassgpt.text.kinds import train_tokenizer

PROMPT = "Hello, hello"
CONFIG = GPTConfig(
    architecture="modern", vocab_size=300, context_length=32, embedding_dim=32, n_heads=4, n_kv_heads=2, n_layers=3
)


@pytest.fixture(autouse=True)
def a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of random weights, whose vocabulary of bytes is padded to 300 ids."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(1)
    directory = tmp_path / "runs" / "random"
    save_checkpoint(directory / "step-00000001", GPTModel(CONFIG), train_tokenizer("bytes", []))
    RunDirectory(directory).record(1, 2.0)
    return directory


def test_the_terminal_shows_tokens_lens_heads_ablation_norms_and_what_comes_next(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["inspect", "--prompt", PROMPT]) == 0
    shown, said = capsys.readouterr()
    for part in ("12 tokens: ", "Logit lens", "layer 2", "After ‘o’ it says ‘", "the token before", "Without it",
                 "the feed-forward of", "Length of the stream", "Nearest in the embedding"):  # fmt: skip
        assert part in shown, part
    assert len([line for line in shown.splitlines() if line[:4].strip().isdigit()]) == 11, "a line a token"
    assert "\x1b" not in shown
    assert max(map(len, shown.split("Logit lens")[1].splitlines())) <= 80
    assert said == f"runs/random, the newest run:\n\nNext: glassgpt inspect --prompt '{PROMPT}' --out page.html\n"


def test_json_is_one_object_of_everything_but_attention(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", "runs/random", "--prompt", PROMPT, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    found = glassgpt.load("runs/random").inspect(PROMPT)
    assert values["tokens"] == found.tokens == list(PROMPT)
    assert [values[name] for name in ("layers", "heads", "width", "vocabulary")] == [3, 4, 32, 300]
    assert values["nats"] == found.xray.nats.tolist()
    assert values["head_ablation"] == found.xray.head_ablation.tolist()
    assert values["lens_tokens"][3][0][0] == values["top_tokens"][0][0] == found.text_of(int(found.xray.top_ids[0, 0]))
    assert set(vars(found.xray)) - set(values) == {"attention"}
    assert run(["inspect", "--prompt", PROMPT, "--json", "--layer", "2", "--ablate", "nothing"]) == 0
    of_layer = json.loads(capsys.readouterr().out)
    assert of_layer["attention"] == found.xray.attention[2].tolist()
    assert of_layer["head_ablation"] is None
    assert run(["inspect", "--prompt", PROMPT, "--json", "--layer", "2", "--head", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["attention"] == found.xray.attention[2, 1].tolist()


def test_one_token_is_shown_without_what_it_cannot_have(capsys: pytest.CaptureFixture[str]) -> None:
    for prompt in ("x", ""):
        assert run(["inspect", "--prompt", prompt]) == 0
        assert "1 token, which has no next one" in capsys.readouterr().out
        assert run(["inspect", "--prompt", prompt, "--json"]) == 0
        values = json.loads(capsys.readouterr().out)
        assert values["nats"] == []
        assert values["attention_ablation"] == [None] * 3
    assert values["tokens"] == ["<|endoftext|>"]
    assert run(["inspect", "--out", "one.html"]) == 0


def test_a_layer_lists_its_heads_and_a_head_is_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", "--prompt", PROMPT, "--layer", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[0] for line in lines if line[:6].strip().isdigit()] == ["0", "1", "2", "3"]
    assert run(["inspect", "--prompt", PROMPT, "--layer", "1", "--head", "3"]) == 0
    drawn = capsys.readouterr().out.splitlines()
    rows = [line for line in drawn if line[:4].strip().isdigit()]
    assert len(rows) == len(PROMPT)
    assert rows[0].split() == ["1", "H", "██", "H", "100%"]
    assert max(map(len, drawn[1:])) <= 80


def test_the_page_is_written_beside_the_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", "--prompt", PROMPT, "--out", "page.html"]) == 0
    assert "Next: glassgpt generate" in capsys.readouterr().err
    assert Path("page.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_file_that_is_no_page_is_not_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.html").write_text("mine")
    assert run(["inspect", "nowhere", "--prompt", PROMPT, "--out", "mine.html"]) == 2
    assert "mine.html exists and is no page of GlassGPT" in capsys.readouterr().err
    assert Path("mine.html").read_text() == "mine"
    for prompt in (PROMPT, PROMPT[:5]):  # the second takes the place of the first
        assert run(["inspect", "--prompt", prompt, "--out", "page.html"]) == 0


def test_a_page_names_the_run_and_no_folder_of_the_machine(tmp_path: Path) -> None:
    assert run(["inspect", str(tmp_path / "runs" / "random"), "--prompt", PROMPT, "--out", "page.html"]) == 0
    page = Path("page.html").read_text(encoding="utf-8")
    assert "<title>X-ray of random</title>" in page
    assert str(tmp_path) not in page
    (tmp_path / "runs" / "random" / "step-00000001").rename(tmp_path / "alone")
    assert run(["inspect", str(tmp_path / "alone"), "--prompt", PROMPT, "--out", "page.html"]) == 0
    assert "<title>X-ray of alone</title>" in Path("page.html").read_text(encoding="utf-8")


HOSTILE = "\x1b[31m\x07<script>\u202e\x00&\x9b"


def test_a_hostile_prompt_is_shown_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    for more in ([], ["--layer", "0"], ["--layer", "0", "--head", "0"]):
        assert run(["inspect", "--prompt", HOSTILE, *more]) == 0
        shown = "".join(capsys.readouterr())
        assert not [sign for sign in shown if not sign.isprintable() and sign != "\n"]
    assert run(["inspect", "--prompt", HOSTILE, "--out", "page.html"]) == 0
    page = Path("page.html").read_text(encoding="utf-8")
    assert "<script>\u202e" not in page
    assert "\x1b" not in page + "".join(capsys.readouterr())


@pytest.mark.thorough
def test_a_terminal_shows_the_prompt_tinted_and_nothing_that_moves_its_cursor(tmp_path: Path) -> None:
    terminal = Terminal("inspect", "--prompt", "\x1b[2J" + PROMPT, home=tmp_path)
    shown, code = terminal.end()
    assert code == 0
    assert "·[2JHello" in re.sub(r"\x1b\[[\d;]*m", "", shown)
    assert not re.sub(r"\x1b\[[\d;]*m|[\r\n]", "", shown).count("\x1b")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--prompt", "x" * 33], "the prompt has 33 tokens, but the model's context_length is 32: leave out 1"),
        (["--layer", "3"], "--layer is 3, but the model has the layers 0 to 2"),
        (["--layer", "-1"], "--layer is -1"),
        (["--layer", "1", "--head", "4"], "--head is 4, but the model has the heads 0 to 3"),
        (["--head", "1"], "give --layer too"),
        (["--out", "page.txt"], "let it end in .html"),
        (["--out", "missing/page.html"], "no folder missing for page.html"),
        (["--prompt", "\udcff"], "the prompt is not valid UTF-8"),
        (["nowhere"], "no directory nowhere"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", *arguments]) == 2
    shown, said = capsys.readouterr()
    assert shown == ""
    assert why in said
    assert len(said.splitlines()) == 1 + said.startswith("runs/")


def test_a_damaged_checkpoint_is_one_line(a_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = a_run / "step-00000001" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert run(["inspect", "runs/random", "--prompt", PROMPT]) == 2
    assert "model.safetensors" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["bf16", "int8", "int4"])
def test_rounded_weights_are_seen_as_they_are(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", "--prompt", PROMPT, "--dtype", kind, "--json"]) == 0
    rounded = json.loads(capsys.readouterr().out)
    exact = glassgpt.load("runs/random").inspect(PROMPT).xray
    assert rounded["weights"] == kind
    assert rounded["nats"] != exact.nats.tolist()
    assert math.isclose(sum(rounded["nats"]), float(exact.nats.sum()), rel_tol=0.05)
    if kind != "bf16":
        assert run(["export", "runs/random", "--quantize", kind, "--out", kind, "--json"]) == 0
        capsys.readouterr()
        assert run(["inspect", kind, "--prompt", PROMPT, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["nats"] == pytest.approx(rounded["nats"], rel=1e-4)
