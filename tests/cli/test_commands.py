"""The commands as a user types them, each in a process of its own where that matters."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pseudo_terminal import Terminal

from glassgpt.cli.main import run

SMALL = ["--tokenizer", "bytes", "--model.embedding-dim", "32", "--model.n-layers", "2", "--model.n-heads", "2",
         "--model.context-length", "32", "--optim.batch-size", "4"]  # fmt: skip


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, story_file: Path) -> Path:
    """A folder with `text.txt` in it, the working directory of the test."""
    (tmp_path / "text.txt").write_text(story_file.read_text())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("glassgpt.api.texts.DEFAULT_CACHE", tmp_path / "cache")
    return tmp_path


def command(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "glassgpt", *arguments], input=stdin, capture_output=True, text=True, check=False
    )


def weights(run_directory: str) -> str:
    return hashlib.sha256(Path(run_directory, "latest", "model.safetensors").read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "verb", ["", "train", "compare", "generate", "eval", "inspect", "export", "plan", "tokenizer",
             "tokenizer train", "tokenizer encode", "tokenizer decode", "data",
             "data prepare", "data info", "data verify", "doctor", "completion"]
)  # fmt: skip
def test_help_explains_without_importing_torch(verb: str) -> None:
    script = (
        "import sys; from glassgpt.cli.main import run; code = run(sys.argv[1:]); "
        "assert 'torch' not in sys.modules; sys.exit(code)"
    )
    found = subprocess.run(
        [sys.executable, "-c", script, *verb.split(), "--help"], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    assert "Usage: glassgpt" in found.stdout


def test_what_needs_no_torch_does_not_import_it() -> None:
    script = (
        "import sys, glassgpt, glassgpt.settings, glassgpt.config, glassgpt.text.kinds, glassgpt.planning.plan; "
        "from glassgpt.cli.main import run; run(['plan', 'gpt2-small', '--no-measure']); "
        "run(['tokenizer', 'encode', 'gpt2', 'Hello']); assert 'torch' not in sys.modules"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr


@pytest.mark.thorough
def test_train_generate_eval_and_plan_print_one_json_object_and_nothing_else(own_folder: Path) -> None:
    found = command("train", "text.txt", "--steps", "10", "--json", *SMALL, "--data.cache", "cache")
    assert found.returncode == 0, found.stderr
    trained = json.loads(found.stdout)
    assert {"directory", "steps", "tokens", "seconds", "val_bpb", "parameters"} <= set(trained)
    assert (trained["directory"], trained["steps"], trained["tokens"]) == ("runs/text", 10, 10 * 4 * 32)
    assert "10/10" in found.stderr

    written = json.loads(command("generate", "--prompt", "One", "--max-new-tokens", "20", "--json").stdout)
    assert {"text", "ids", "tokens_per_s", "time_to_first_token_s"} <= set(written)
    assert written["text"].startswith("One")
    assert 0 < len(written["ids"]) <= 20

    on_text = json.loads(command("eval", "runs/text", "--data", "text.txt", "--json").stdout)
    assert set(on_text) == {"bits_per_byte", "loss", "perplexity", "tokens", "bytes", "dtype"}
    assert on_text["tokens"] == on_text["bytes"] == len((own_folder / "text.txt").read_bytes()) - 1
    on_validation = json.loads(command("eval", "runs/text", "--json").stdout)
    assert on_validation["bits_per_byte"] == pytest.approx(trained["val_bpb"])

    rounded = json.loads(command("eval", "runs/text", "--dtype", "int8", "--json").stdout)
    assert rounded["dtype"] == "int8"
    assert rounded["bits_per_byte_fp32"] == on_validation["bits_per_byte"]
    assert abs(rounded["cost_percent"]) < 0.5
    exported = json.loads(command("export", "--quantize", "int8", "--out", "small", "--json").stdout)
    assert exported["bytes_after"] < exported["bytes_before"] / 2
    of_small = json.loads(command("eval", "small", "--data", "text.txt", "--json").stdout)
    assert of_small["dtype"] == "int8"
    assert of_small["bits_per_byte"] == pytest.approx(on_text["bits_per_byte"], rel=5e-3)

    of_minutes = json.loads(command("plan", "text.txt", "--minutes", "2", "--json").stdout)
    assert of_minutes["steps"] > 0
    assert of_minutes["model"]["architecture"] == "modern"
    assert of_minutes["tokenizer"]
    assert of_minutes["parameters"]["total"] > 0

    planned = json.loads(command("plan", "runs/text", "--json").stdout)
    assert planned["parameters"]["total"] == trained["parameters"]
    assert {"by_component", "total"} <= set(planned["parameters"])
    assert {"bytes", "training_memory_bytes", "flops_per_token"} <= set(planned)
    here = planned["this_machine"]
    assert here["measured"]
    assert here["how"] == "steps of this model"
    assert here["seconds_per_million_tokens"] == pytest.approx(1e6 / here["tokens_per_s"])
    written = own_folder / "runs/text"
    expected, report = (json.loads((written / f"{name}.json").read_text()) for name in ("plan", "report"))
    assert set(expected) <= set(report)
    assert report["checkpoint_bytes"] == pytest.approx(expected["checkpoint_bytes"], rel=0.005)


@pytest.mark.thorough
def test_training_shows_header_lines_samples_result_and_the_next_command() -> None:
    found = command("train", "text.txt", "--steps", "20", *SMALL, "--data.cache", "cache")
    assert found.returncode == 0
    for part in ("characters", "parameters", "expect", "of memory", "20/20 100%", "val bpb", "tok/s", "eta", "best",
                 "bits per byte", "predicted", "Next: glassgpt generate runs/text"):  # fmt: skip
        assert part in found.stdout, part
    assert "\x1b" not in found.stdout, "plain lines on a pipe"


@pytest.mark.thorough
def test_a_run_of_minutes_as_a_user_starts_it() -> None:
    minutes = "0.25"
    found = command("train", "text.txt", "--minutes", minutes, "--data.cache", "cache", "--json")
    if found.returncode == 2:  # a busy machine: its own advice has to do
        minutes = found.stderr.split("give at least --minutes ")[1].strip()
        found = command("train", "text.txt", "--minutes", minutes, "--data.cache", "cache", "--json")
    assert found.returncode == 0, found.stderr
    report = json.loads(found.stdout)
    assert 0 < report["predicted"]["seconds"] <= 60 * float(minutes) * 1.001  # less where the text is too short for all
    assert report["predicted"]["bits_per_byte"] is None, "the law knows no text as short"
    assert report["measured"]["bits_per_byte"] == report["val_bpb"] > 0
    assert report["steps"] > 0
    for part in ("expect", "why", "GFLOP/s", "bits per byte", "predicted"):
        assert part in found.stderr, part
    assert "over the budget" not in found.stderr or report["overrun"] > 0


@pytest.mark.thorough
def test_standard_input_is_kept_so_that_it_can_resume(own_folder: Path) -> None:
    text = (own_folder / "text.txt").read_text()
    found = command("train", "-", "--steps", "4", *SMALL, "--data.cache", "cache", stdin=text)
    assert found.returncode == 0, found.stderr
    assert command("train", "--resume", "runs/stdin", "--steps", "8").returncode == 0


@pytest.mark.thorough
def test_the_same_seed_writes_the_same_and_samples_differ(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "text.txt", "--steps", "5", *SMALL]) == 0
    capsys.readouterr()
    texts = []
    for seed in ("3", "3", "4"):
        assert run(["generate", "--prompt", "A", "--max-new-tokens", "30", "--seed", seed]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != texts[2]
    assert run(["generate", "--num-samples", "3", "--max-new-tokens", "30", "--json"]) == 0
    samples = json.loads(capsys.readouterr().out)["samples"]
    assert len({sample["text"] for sample in samples}) == 3


def test_a_tokenizer_is_trained_and_its_ids_come_back_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["tokenizer", "train", "text.txt", "--out", "tok", "--tokenizer", "bpe:300", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["vocab_size"] == 300
    assert run(["tokenizer", "encode", "tok", "A fox — 🦊", "--json"]) == 0
    ids = json.loads(capsys.readouterr().out)["ids"]
    assert run(["tokenizer", "decode", "tok", *map(str, ids)]) == 0
    assert capsys.readouterr().out == "A fox — 🦊\n"
    assert run(["tokenizer", "encode", "gpt2", "Every effort moves you"]) == 0
    assert capsys.readouterr().out == "6109 3626 6100 345\n"


def test_data_prepare_info_and_verify_agree(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "prepare", "text.txt", "--tokenizer", "chars", "--json"]) == 0
    prepared = json.loads(capsys.readouterr().out)
    assert run(["data", "info", prepared["directory"], "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == prepared
    assert run(["data", "verify", prepared["directory"], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["intact"] is True


@pytest.mark.thorough
def test_sixty_steps_killed_and_resumed_end_in_the_same_bytes() -> None:
    """SIGKILL at three instants; each time `--resume` goes on from the newest checkpoint."""
    length = ["--steps", "60", "--run.save-every", "5", "--run.eval-every", "20", "--data.cache", "cache"]
    assert command("train", "text.txt", *length, "--out", "whole", *SMALL).returncode == 0
    arguments = ["text.txt", *length, "--out", "parts", *SMALL]
    for kill_at in (13, 31, 52):
        process = subprocess.Popen(
            [sys.executable, "-m", "glassgpt", "train", *arguments], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        for line in process.stdout:
            if line.split("/")[0].isdigit() and int(line.split("/")[0]) >= kill_at:
                process.send_signal(signal.SIGKILL)
                break
        assert process.wait() == -signal.SIGKILL
        arguments = ["--resume", "parts"]
    assert command("train", "--resume", "parts").returncode == 0
    assert weights("parts") == weights("whole")
    for name in Path("whole/latest").rglob("*.safetensors"):
        assert name.read_bytes() == Path("parts/latest", name.relative_to("whole/latest")).read_bytes()
    steps = [json.loads(line)["step"] for line in Path("parts/metrics.jsonl").read_text().splitlines()]
    assert steps == [json.loads(line)["step"] for line in Path("whole/metrics.jsonl").read_text().splitlines()]


@pytest.mark.thorough
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_prints_the_command_that_resumes(number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "glassgpt", "train", "text.txt", "--steps", "100000", *SMALL, "--data.cache", "cache"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("1/100,000"):
            break
    time.sleep(0.3)
    os.kill(process.pid, number)
    rest, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "glassgpt train --resume runs/text" in rest
    assert "Traceback" not in errors
    assert list(Path("runs/text").glob("step-*/manifest.json"))


def test_debug_shows_the_traceback() -> None:
    found = command("train", "missing.txt", "--debug")
    assert "Traceback" in found.stderr
    assert found.returncode != 0


@pytest.mark.thorough
def test_a_run_whose_terminal_is_closed_is_saved_and_the_newest_run_goes_on_without_a_name(own_folder: Path) -> None:
    more = ["--tokenizer", "bytes", "--model.embedding-dim", "32", "--model.n-layers", "1", "--model.n-heads", "2",
            "--model.context-length", "32", "--optim.batch-size", "4", "--data.cache", "cache"]  # fmt: skip
    terminal = Terminal("train", "text.txt", "--steps", "100000", *more, home=own_folder)
    terminal.wait_for("tok/s")
    os.close(terminal.keys)
    _, status = os.waitpid(terminal.process, 0)
    assert os.waitstatus_to_exitcode(status) == 130
    step = json.loads(Path("runs/text/run.json").read_bytes())["latest"]["step"]
    assert step > 0
    found = command("train", "--resume", "--steps", str(step + 3), "--json")
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["steps"] == step + 3
