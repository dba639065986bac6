"""`glassgpt chat`, line by line on a pipe and as somebody types in a terminal."""

import subprocess
import sys
from pathlib import Path

import pytest
from pseudo_terminal import Terminal

from glassgpt.cli.main import run

SMALL = ["--tokenizer", "bytes", "--model.embedding-dim", "32", "--model.n-layers", "1", "--model.n-heads", "2",
         "--model.context-length", "32", "--optim.batch-size", "4"]  # fmt: skip
NOTE = "This model has no chat template, so it was not taught to answer: it goes on with your text instead.\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, story_file: Path) -> str:
    """The directory of a small model."""
    folder = tmp_path_factory.mktemp("model")
    places = ["--out", str(folder / "run"), "--data.cache", str(folder / "cache")]
    assert run(["train", str(story_file), "--steps", "200", "--run.eval-every", "200", *places, *SMALL]) == 0
    return str(folder / "run")


def chat_on_a_pipe(model: str, text: str, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "glassgpt", "chat", model, "--max-new-tokens", "12", "--stop", "\n", *flags],
        input=text, capture_output=True, text=True, check=False, encoding="utf-8",
    )  # fmt: skip


def test_on_a_pipe_each_line_is_a_turn_and_the_commands_are_obeyed(model: str, tmp_path: Path) -> None:
    place = tmp_path / "talk.txt"
    found = chat_on_a_pipe(model, f"One fox\n/again\nA dog\n/save {place}\n/save {place}\n/speak\n/quit\nnever\n")
    assert found.returncode == 0
    first, second, third = found.stdout.removesuffix("\n").split("\n")
    assert first != second
    assert place.read_text(encoding="utf-8") == f"One fox{second}\nA dog{third}\n"
    assert found.stderr.startswith(NOTE)
    for line in (
        f"saved in {place}",
        f"{place} exists already: give another name",
        "there is no command /speak: /help lists those there are",
        f"Next: glassgpt generate {model}",
    ):
        assert found.stderr.count(f"\n{line}") == 1
    assert chat_on_a_pipe(model, "One fox\n/again\nA dog\n").stdout == found.stdout


def test_after_reset_the_model_knows_nothing_of_before(model: str, tmp_path: Path) -> None:
    found = chat_on_a_pipe(model, f"One fox\n/reset\n /again\n/save {tmp_path / 'talk'}\n")
    _, second, _ = found.stdout.split("\n")
    assert (tmp_path / "talk").read_text(encoding="utf-8") == f" /again{second}\n"


def test_help_lists_every_command(model: str) -> None:
    found = chat_on_a_pipe(model, "/help\n")
    assert found.stdout == ""
    for command in ("/again", "/reset", "/save FILE", "/help", "/quit"):
        assert f"\n{command} " in found.stderr


def test_the_help_needs_neither_torch_nor_prompt_toolkit() -> None:
    script = (
        "import sys; from glassgpt.cli.main import run; code = run(['chat', '--help']); "
        "assert not {'torch', 'prompt_toolkit'} & set(sys.modules); sys.exit(code)"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert "Usage: glassgpt chat" in found.stdout
    assert "--min-p" in found.stdout


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--temperature", "-1"], "temperature is -1.0"),
        (["--stop", ""], "a stop string is empty"),
        (["--max-new-tokens", "0"], "max_new_tokens is 0, but must be at least 1"),
        (["--num-samples", "3"], "unknown option --num-samples"),
    ],
)
def test_a_wrong_flag_gets_one_line(
    capsys: pytest.CaptureFixture[str], model: str, flags: list[str], says: str
) -> None:
    assert run(["chat", model, *flags]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert says in err


def test_a_line_that_is_no_utf_8_is_named(model: str) -> None:
    found = subprocess.run(
        [sys.executable, "-m", "glassgpt", "chat", model, "--max-new-tokens", "3"],
        input=b"One\n\xff\n", capture_output=True, check=False,
    )  # fmt: skip
    assert found.returncode == 2
    assert found.stderr.endswith(b"glassgpt: line 2 of standard input is not valid UTF-8: give UTF-8 text\n")


PROMPT, ENTERED = "\x1b[?2004h", "\x1b[?2004l"  # what the prompt begins and ends with
UP, LEFT, CTRL_C, CTRL_D = "\x1b[A", "\x1b[D", "\x03", "\x04"


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_in_a_terminal_ctrl_c_stops_the_answer_and_the_history_is_kept(model: str, tmp_path: Path) -> None:
    terminal = Terminal("chat", model, "--max-new-tokens", "1000000", home=tmp_path)
    terminal.wait_for(PROMPT)
    terminal.press("One fax" + LEFT + "\x7fo\r")  # edited: One fox
    terminal.wait_for(ENTERED)
    for _ in range(3):
        terminal.wait_for("\n")  # it writes
    terminal.press(CTRL_C)
    terminal.wait_for(PROMPT)
    terminal.press(f"/save {tmp_path / 'talk.txt'}\r")
    terminal.wait_for("saved in")
    terminal.wait_for(PROMPT)
    terminal.press(CTRL_D)
    rest, code = terminal.end()
    assert code == 0
    assert f"Next: glassgpt generate {model}" in rest
    assert "Traceback" not in rest
    assert (tmp_path / "talk.txt").read_text(encoding="utf-8").startswith("One fox")

    again = Terminal("chat", model, "--max-new-tokens", "5", home=tmp_path)
    again.wait_for(PROMPT)
    again.press(UP + UP)
    again.wait_for("One fox")
    again.press(CTRL_C)  # clears the line
    again.wait_for(PROMPT)
    again.press(CTRL_D)
    rest, code = again.end()
    assert code == 0
    assert "Next: glassgpt generate" in rest
