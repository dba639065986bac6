"""`glassgpt generate`: stop strings, samples, probabilities, and what a Ctrl-C leaves."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pseudo_terminal import Terminal

import glassgpt
from glassgpt.api.gpt import GPT
from glassgpt.cli.main import run
from glassgpt.cli.probabilities import visible
from glassgpt.generation.sampling import Sampling

SMALL = ["--tokenizer", "bpe:300", "--model.embedding-dim", "32", "--model.n-layers", "1", "--model.n-heads", "2",
         "--model.context-length", "32", "--optim.batch-size", "4"]  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, story_file: Path) -> str:
    """The directory of a small model."""
    folder = tmp_path_factory.mktemp("model")
    places = ["--out", str(folder / "run"), "--data.cache", str(folder / "cache")]
    assert run(["train", str(story_file), "--steps", "200", "--run.eval-every", "200", *places, *SMALL]) == 0
    return str(folder / "run")


@pytest.fixture(scope="module")
def gpt(model: str) -> GPT:
    return glassgpt.load(model)


def written(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    """What `generate --json` prints."""
    assert run(["generate", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("stop", [["e"], [" the", "\n"], ["a long text that does not come"], ["w", "an"]])
def test_the_text_ends_before_the_first_stop_string(
    capsys: pytest.CaptureFixture[str], model: str, gpt: GPT, stop: list[str]
) -> None:
    free = written(capsys, model, "--prompt", "One", "--max-new-tokens", "60")
    assert free["finish_reason"] == ("length" if len(free["ids"]) == 60 else "stop")
    whole = free["text"].removeprefix("One")
    cut = whole[: min((whole.find(string) for string in stop if string in whole), default=len(whole))]
    flags = [part for string in stop for part in ("--stop", string)]
    found = written(capsys, model, "--prompt", "One", "--max-new-tokens", "60", *flags)
    assert found["text"] == "One" + cut
    assert found["finish_reason"] == ("stop" if len(cut) < len(whole) else free["finish_reason"])
    assert found["ids"] == free["ids"][: len(found["ids"])], "no more tokens than were needed"
    assert gpt.generate("One", 60, stop=stop) == "One" + cut
    assert gpt.generate("One", 60, stop=stop[0]) == "One" + whole.partition(stop[0])[0]
    assert "".join(gpt.stream("One", 60, stop=stop)) == cut


def test_a_sample_is_the_same_however_many_there_are(capsys: pytest.CaptureFixture[str], model: str) -> None:
    few = written(capsys, model, "--max-new-tokens", "20", "--num-samples", "2")["samples"]
    many = written(capsys, model, "--max-new-tokens", "20", "--num-samples", "5")["samples"]
    assert [sample["text"] for sample in few] == [sample["text"] for sample in many[:2]]
    assert written(capsys, model, "--max-new-tokens", "20")["text"] == many[0]["text"]
    assert len({sample["text"] for sample in many}) == 5


def test_the_next_command_measures_on_the_text_that_the_run_kept(
    capsys: pytest.CaptureFixture[str], model: str
) -> None:
    for directory in (model, str(Path(model) / "latest")):
        assert run(["generate", directory, "--max-new-tokens", "3"]) == 0
        assert capsys.readouterr().err.endswith(f"Next: glassgpt eval {directory}\n")
        assert run(["eval", directory]) == 0


def test_the_sampling_flags_are_those_of_python(capsys: pytest.CaptureFixture[str], model: str, gpt: GPT) -> None:
    flags = {"temperature": 1.5, "top_k": 40, "top_p": 0.9, "min_p": 0.1, "repetition_penalty": 1.3, "seed": 5}
    typed = [part for name, value in flags.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    in_python = gpt.generate("The", 40, **flags)
    assert written(capsys, model, "--prompt", "The", "--max-new-tokens", "40", *typed)["text"] == in_python
    for name, off in (("min_p", None), ("repetition_penalty", 1.0)):
        assert gpt.generate("The", 40, **flags | {name: off}) != in_python


def test_probabilities_are_told_of_each_token_and_change_nothing(
    capsys: pytest.CaptureFixture[str], model: str, gpt: GPT
) -> None:
    plain = written(capsys, model, "--prompt", "One", "--max-new-tokens", "25", "--temperature", "2")
    found = written(
        capsys, model, "--prompt", "One", "--max-new-tokens", "25", "--temperature", "2", "--show-probabilities"
    )
    assert "probabilities" not in plain
    assert (found["text"], found["ids"]) == (plain["text"], plain["ids"])
    assert [token["id"] for token in found["probabilities"]] == found["ids"]
    for token in found["probabilities"]:
        assert set(token) == {"id", "token", "probability", "rank", "alternatives"}
        assert len(token["alternatives"]) == 5
        likelier = [other for other in token["alternatives"] if other["probability"] > token["probability"]]
        assert len(likelier) == min(5, token["rank"] - 1)
    in_python = list(gpt.scored("One", 25, Sampling(temperature=2)))
    assert [token.probability for token in in_python] == [token["probability"] for token in found["probabilities"]]


def test_on_a_pipe_probabilities_are_one_aligned_line_a_token(
    capsys: pytest.CaptureFixture[str], model: str, gpt: GPT
) -> None:
    assert run(["generate", model, "--prompt", "One", "--max-new-tokens", "30", "--show-probabilities"]) == 0
    lines = capsys.readouterr().out.splitlines()
    tokens = list(gpt.scored("One", 30, Sampling()))
    assert len(lines) == len(tokens)
    for n, (line, token) in enumerate(zip(lines, tokens), 1):
        assert line.split()[:4] == [str(n), visible(token.token), f"{token.probability:.4f}", str(token.rank)]
        assert line.index(visible(token.token)) == 6
        assert "\x1b" not in line


def test_what_cannot_be_seen_in_a_token_is_a_sign() -> None:
    assert visible(" a\nb\tc\r\x1b[31m") == "␣a↵b⇥c␍·[31m"


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--min-p", "2"], "min_p is 2.0, but must be from 0 to 1"),
        (["--repetition-penalty", "0"], "repetition_penalty is 0.0, but must be from 0.01"),
        (["--stop", ""], "a stop string is empty"),
        (["--top-k", "1.5"], "must be a whole number"),
        (["--temprature", "1"], "did you mean --temperature?"),
        (["--num-samples", "0"], "--num-samples is 0, but must be from 1 to 10,000"),
        (["--num-samples", "10000000"], "--num-samples is 10000000, but must be from 1 to 10,000"),
        (["--max-new-tokens", "0"], "must be at least 1"),
    ],
)
def test_a_wrong_flag_gets_one_line(
    capsys: pytest.CaptureFixture[str], model: str, flags: list[str], says: str
) -> None:
    assert run(["generate", model, *flags]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert err.count("\n") == 1


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one child alone")
@pytest.mark.parametrize("flags", [[], ["--show-probabilities"]])
def test_a_ctrl_c_ends_the_line_and_is_130(model: str, flags: list[str]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "glassgpt", "generate", model, "--max-new-tokens", "1000000", "--prompt", "One", *flags],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
    )  # fmt: skip
    assert process.stdout is not None
    first = process.stdout.read(200)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert errors == b"glassgpt: interrupted\n"
    assert (first + out).endswith(b"\n")


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
@pytest.mark.parametrize("colours", [{}, {"NO_COLOR": "1"}])
def test_in_a_terminal_generate_tints_tokens_and_lists_the_least_expected(
    model: str, tmp_path: Path, colours: dict[str, str]
) -> None:
    command = ["generate", model, "--prompt", "One", "--show-probabilities"]
    shown, code = Terminal(*command, home=tmp_path, **colours).end()
    assert code == 0
    assert "tokens that it expected least" in shown
    assert ("48;5;209" in shown) == (not colours)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown).split("\r\n")
    legend = next(n for n, line in enumerate(lines) if line.startswith("probability"))
    assert all(re.match(r" +\d+  ", line) for line in lines[legend + 4 : legend + 20])
    assert max(map(len, lines[legend : legend + 20])) < 80
