"""`plan`: of presets, of runs, of directories that other tools made."""

import io
import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from glassgpt.cli.main import run
from glassgpt.cli.plan import saying_after
from glassgpt.cli.training_view import compared, view_of
from glassgpt.config import PRESETS, OptimConfig, RunConfig, Settings
from glassgpt.planning.memory import training_memory

GPT2 = {"model_type": "gpt2", "vocab_size": 300, "n_layer": 2, "n_head": 2, "n_embd": 32, "n_positions": 64}
LLAMA = {
    "vocab_size": 300, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 32,
    "intermediate_size": 96, "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
    "head_dim": 8, "hidden_act": "silu", "attention_bias": False, "tie_word_embeddings": True,
}  # fmt: skip


def planned(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert run(["plan", *arguments, "--no-measure", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_has_its_tokens_and_its_gpus(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = planned(capsys, name)
    assert found["compute_optimal"]["tokens"] == 20 * found["parameters"]["total"]
    assert found["this_machine"] is None
    assert {"name", "source", "fits", "tokens_per_s", "seconds_compute_optimal"} <= set(found["gpus"][0])


@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen3"])
def test_a_directory_of_transformers_is_planned_from_its_config(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    transformers = pytest.importorskip("transformers")
    make = {"gpt2": transformers.GPT2Config, "llama": transformers.LlamaConfig, "qwen3": transformers.Qwen3Config}
    models = {"gpt2": "GPT2LMHeadModel", "llama": "LlamaForCausalLM", "qwen3": "Qwen3ForCausalLM"}
    model = getattr(transformers, models[kind])(make[kind](**(GPT2 if kind == "gpt2" else LLAMA)))
    model.save_pretrained(tmp_path)
    assert planned(capsys, str(tmp_path))["parameters"]["total"] == model.num_parameters()


def test_a_run_is_planned_as_it_was_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = {"architecture": "modern", "vocab_size": 300, "embedding_dim": 32, "n_heads": 2, "n_layers": 2}
    optim, kept = {"name": "muon", "batch_size": 24, "accumulation": 3}, {"kernel": "torch", "dtype": "fp32"}
    chosen = Settings.from_dict({"text": ["pydoc"], "model": model, "optim": optim, "run": kept | {"threads": 2}})
    from glassgpt.checkpoint.directory import save_checkpoint
    from glassgpt.checkpoint.run_settings import write_settings
    from glassgpt.model import GPTModel

    save_checkpoint(tmp_path / "step-00000001", GPTModel(chosen.model), None)
    write_settings(tmp_path, chosen)
    found = planned(capsys, str(tmp_path / "step-00000001"))
    expected = training_memory(chosen.model, OptimConfig(**optim), RunConfig(**kept, threads=2))["total"]
    assert found["training_memory_bytes"] == expected
    other = planned(capsys, str(tmp_path / "step-00000001"), "--optim.accumulation", "1")
    assert other["training_memory_bytes"] > expected


def test_what_does_not_fit_here_is_still_planned_and_says_what_would(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "gpt2-xl", "--no-measure", "--optim.batch-size", "4096"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "does not fit into the" in shown
    assert "1,557,611,200" in shown


def test_what_does_not_fit_is_followed_by_a_command_that_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "gpt2-xl", "--no-measure", "--optim.batch-size", "4096", "--model.embedding-dim", "3200"]) == 0
    words = shlex.split(capsys.readouterr().err.split("Next: ")[1])
    assert words[:5] == ["glassgpt", "train", "book.txt", "--preset", "gpt2-xl"]
    flags = dict(zip(words[5::2], words[6::2], strict=True))
    assert flags["--optim.batch-size"] == "4096"
    assert flags["--model.embedding-dim"] == "3200"
    assert 0 < int(flags["--model.n-layers"]) < 48
    assert "--run.max-memory" in flags


def test_what_fits_is_followed_by_what_was_planned(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "modern-tiny", "--no-measure", "--optim.batch-size", "2", "--model.n-layers", "3"]) == 0
    words = shlex.split(capsys.readouterr().err.split("Next: ")[1])
    assert words[3:5] == ["--preset", "modern-tiny"]
    assert dict(zip(words[5::2], words[6::2], strict=True)) == {"--optim.batch-size": "2", "--model.n-layers": "3"}


def test_the_memory_that_train_takes_is_named_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "modern-tiny", "--model.n-layers", "1", "--model.context-length", "32"]) == 0
    table, measured = " ".join(capsys.readouterr().out.split()).split("On this machine")
    assert "as PyTorch computes it; `train` takes what is fastest on this machine, whose memory is below" in table
    assert "fits into" not in table
    assert "memory that `train` takes here" in measured
    assert "fits into the" in measured


def test_a_name_that_is_empty_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", ""]) == 2
    assert "has no name: give a preset, a run, a model directory or a text" in capsys.readouterr().err


def test_a_text_that_is_long_to_read_is_named_meanwhile(capsys: pytest.CaptureFixture[str]) -> None:
    with saying_after("reading a book", 0.0):
        while not (said := capsys.readouterr().err):
            pass
    assert said == "  reading a book ...\n"
    with saying_after("reading a line", 3600):
        pass
    assert capsys.readouterr().err == ""


def test_a_folder_of_texts_is_trained_on_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "book.txt").write_text("A fox met a bear. " * 200)
    assert run(["plan", str(tmp_path), "--no-measure"]) == 0
    assert f"Next: glassgpt train {tmp_path}" in capsys.readouterr().err


def test_sizes_that_a_config_leaves_out_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2", "n_embd": 96, "vocab_size": 300}')
    assert run(["plan", str(tmp_path), "--no-measure"]) == 0
    shown = capsys.readouterr()
    said = "config.json leaves out n_positions, n_layer, n_head: as in transformers, they are 1,024, 12, 12"
    assert said in " ".join(shown.out.split())
    build = "glassgpt train book.txt --model.architecture gpt2 --model.n-layers 12"
    assert f"Next: {build}" in shown.err, "there are no weights to write with"


def test_the_last_screen_shows_prediction_beside_measurement() -> None:
    from glassgpt.api.outlook import Costs

    predicted = Costs(10, 5, 500, 60.0, 1000.0, None, 10**8, 10**6)
    measured = Costs(10, 5, 500, 66.0, 900.0, 2.0, 11 * 10**7, 10**6)
    rows = compared(predicted, measured)
    assert rows[0].split() == ["predicted", "measured"]
    assert [row.split()[-1] for row in rows[1:5]] == ["+10.0%", "-10.0%", "+10.0%", "+0.0%"]
    assert rows[5].split() == ["bits", "per", "byte", "not", "foreseen", "2.000"]
    assert rows[0].index("predicted") + len("predicted") == rows[5].index("not foreseen") + len("not foreseen")
    assert len(rows[0]) == len(rows[5])


def test_counting_says_that_it_is_of_tokens() -> None:
    from glassgpt.api.outlook import Costs
    from glassgpt.api.train import Run

    costs = Costs(10, 5, 500, 60.0, 1000.0, None, 10**8, 10**6)
    done = Run(Path("run"), 1.9, [], costs, costs, None, {"1": 4.0, "3": 2.13})
    [(_, said)] = view_of(io.StringIO()).counting(done)
    assert said == "a 3-gram model of this run's tokens reaches 2.13 bits per byte; this model 1.90"
