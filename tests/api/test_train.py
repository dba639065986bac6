"""Training through the Python API: what a run leaves behind, that it learns, that it resumes bit for bit."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from small_runs import StopAt, change_settings, weights
from transformers import AutoModelForCausalLM, AutoTokenizer

import glassgpt
from glassgpt import InputError
from glassgpt.api.start import Start
from glassgpt.api.train import Silent
from glassgpt.checkpoint.run_settings import read_settings
from glassgpt.checkpoint.stored import WEIGHTS
from glassgpt.checkpoint.tensors import TensorFile
from glassgpt.data.prepare import open_prepared
from glassgpt.evaluation.bits_per_byte import Evaluation
from glassgpt.text.stories import entropy_bits_per_byte, write_stories
from glassgpt.training.interruption import Interrupted
from glassgpt.training.loop import Progress, TrainingFailed

SMALL: dict[str, Any] = {
    "model": {"embedding_dim": 32, "n_heads": 2, "n_layers": 2, "context_length": 32},
    "optim": {"batch_size": 4, "warmup": 2},
}


TRAIN_AND_LOAD = """
import sys
import glassgpt
small = {"embedding_dim": 32, "n_heads": 2, "n_layers": 2, "context_length": 32}
run = glassgpt.train(sys.argv[1], steps=3, model=small, data={"cache": "."}, optim={"batch_size": 4, "name": "muon"})
glassgpt.load(run.directory).generate("Once", max_new_tokens=2)
sys.exit("torch._dynamo" in sys.modules)
"""


@pytest.mark.thorough
def test_a_run_directory_holds_everything(story_file: Path, own_folder: Path) -> None:
    run = glassgpt.train(story_file, steps=20, run={"log_every": 5}, **SMALL)
    assert run.directory == Path("runs/stories")
    names = {path.name for path in run.directory.iterdir()}
    assert names >= {
        "config.yaml", "plan.json", "report.json", "metrics.jsonl", "samples.txt", "loss.svg", "run.json", "best",
        "latest", "health.jsonl", "step-00000020",
    }  # fmt: skip
    lines = [json.loads(line) for line in (run.directory / "metrics.jsonl").read_text().splitlines()]
    assert set(lines[0]) == {
        "step", "tokens", "seconds", "loss", "val_bpb", "lr", "grad_norm", "tokens_per_s", "memory_bytes",
    }  # fmt: skip
    assert [line["step"] for line in lines if line["val_bpb"]] == list(range(2, 21, 2))
    assert lines[-1]["tokens"] == 20 * 4 * 32
    plan, report = (json.loads((run.directory / name).read_text()) for name in ("plan.json", "report.json"))
    assert set(plan) <= set(report)
    assert plan["parameters"] == run.predicted.parameters
    assert (run.directory / "samples.txt").read_text().count("--- step") == 10
    assert run.history[-1].step == 20
    again = glassgpt.train(story_file, steps=2, **SMALL)
    assert again.directory == Path("runs/stories-2"), "a run never overwrites another"


@pytest.mark.thorough
def test_a_small_model_comes_close_to_the_entropy_of_the_stories(own_folder: Path) -> None:
    text = own_folder / "many.txt"
    text.write_text("\n".join(write_stories(3000, seed=2)))
    run = glassgpt.train(
        text,
        steps=300,
        tokenizer="bpe:400",
        model={"embedding_dim": 64, "n_heads": 2, "n_layers": 2, "context_length": 64},
        optim={"batch_size": 16, "learning_rate": 5e-3, "warmup": 20},
    )
    entropy = entropy_bits_per_byte()
    assert entropy * 0.97 < run.bits_per_byte < entropy * 1.35, "below the entropy something would leak"


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("optim", "dropout"), [({"name": "muon", "average_share": 0.3}, 0.0), ({"name": "adamw"}, 0.2)], ids=str
)
def test_an_interrupted_run_resumes_bit_for_bit(story_file: Path, optim: dict[str, Any], dropout: float) -> None:
    settings = {"model": SMALL["model"] | {"dropout_rate": dropout}, "optim": SMALL["optim"] | optim}
    whole = glassgpt.train(story_file, steps=24, out="whole", run={"eval_every": 6}, **settings)
    with pytest.raises(Interrupted):
        glassgpt.train(story_file, steps=24, out="parts", run={"eval_every": 6}, listener=StopAt(9), **settings)
    assert (Path("parts") / "step-00000009").is_dir(), "saved at the step it was asked to stop"
    with pytest.raises(Interrupted):
        glassgpt.train(resume="parts", listener=StopAt(18))  # where an evaluation was due
    parts = glassgpt.train(resume="parts")
    assert weights(Path("parts")) == weights(Path("whole"))
    assert parts.bits_per_byte == whole.bits_per_byte
    assert Path("parts/samples.txt").read_text() == Path("whole/samples.txt").read_text()
    assert Path("parts/health.jsonl").read_text() == Path("whole/health.jsonl").read_text()
    exact = [(line.step, line.loss, line.val_bpb, line.grad_norm, line.lr) for line in whole.history]
    assert [(line.step, line.loss, line.val_bpb, line.grad_norm, line.lr) for line in parts.history] == exact


@pytest.mark.thorough
def test_what_is_saved_and_scored_is_the_average_of_the_weights(story_file: Path) -> None:
    """Two runs of 6 steps, the second with the plain mean over all of them: it is that of the first run's weights."""
    every = {"steps": 6, "run": {"eval_every": 1, "log_every": 1, "threads": 1}}
    saved: dict[int, dict[str, torch.Tensor]] = {}
    scores: dict[int, Evaluation] = {}

    class Keep(Silent):
        def saved(self, checkpoint: Path) -> None:
            saved[len(saved) + 1] = {name: t.clone() for name, t in TensorFile(checkpoint / WEIGHTS).items()}

        def evaluated(self, progress: Progress, evaluation: Evaluation, sample: str) -> None:
            scores[progress.step] = evaluation

    glassgpt.train(story_file, out="raw", listener=Keep(), **every, **SMALL)
    steps = list(saved.values())
    optim = SMALL["optim"] | {"average_share": 1.0}
    run = glassgpt.train(story_file, out="averaged", listener=Keep(), **every, model=SMALL["model"], optim=optim)
    checkpoint = run.directory / "step-00000006"
    for name, tensor in TensorFile(checkpoint / WEIGHTS).items():
        assert torch.allclose(tensor, sum(step[name] for step in steps) / 6, atol=1e-6), name
    model = glassgpt.load(checkpoint)
    hashed = yaml.safe_load((run.directory / "config.yaml").read_text())["prepared"]
    ids = open_prepared(Path("cache") / hashed).val
    found = model.evaluate_ids(ids[: scores[6].tokens + 1])  # by PyTorch, where training may have used the native step
    assert scores[6].bits_per_byte == pytest.approx(found.bits_per_byte, rel=1e-6)
    assert run.bits_per_byte == pytest.approx(glassgpt.load(run.directory).evaluate_ids(ids).bits_per_byte, rel=1e-6)


@pytest.mark.thorough
def test_neither_training_nor_loading_imports_the_compiler(story_file: Path) -> None:
    """It takes more than a second at every start."""
    finished = subprocess.run([sys.executable, "-c", TRAIN_AND_LOAD, str(story_file)])
    assert finished.returncode == 0


@pytest.mark.thorough
def test_the_settings_of_a_run_repeat_its_numbers(story_file: Path) -> None:
    first = glassgpt.train(story_file, steps=12, out="first", seed=5, **SMALL)
    second = glassgpt.train(config="first/config.yaml", out="second")
    assert weights(Path("first")) == weights(Path("second"))
    assert second.bits_per_byte == first.bits_per_byte
    other = glassgpt.train(config="first/config.yaml", out="other", seed=6)
    assert other.bits_per_byte != first.bits_per_byte
    assert yaml.safe_load((other.directory / "config.yaml").read_text())["run"]["seed"] == 6


@pytest.mark.thorough
@pytest.mark.parametrize("tokenizer", ["gpt2", "bpe:300", "chars", "bytes"])
@pytest.mark.parametrize("architecture", ["gpt2", "modern"])
def test_a_run_opens_in_transformers_as_it_lies(story_file: Path, tokenizer: str, architecture: str) -> None:
    settings = {"model": SMALL["model"] | {"architecture": architecture}, "optim": SMALL["optim"]}
    run = glassgpt.train(story_file, steps=4, tokenizer=tokenizer, **settings)
    gpt = glassgpt.load(run.directory)
    theirs = AutoModelForCausalLM.from_pretrained(run.directory / "best")
    their_tokenizer = AutoTokenizer.from_pretrained(run.directory / "best")
    prompt = "One day a fox — “naïve” 🦊 <|endoftext|> said"
    ids = gpt.tokenizer.encode(prompt)
    assert their_tokenizer(prompt)["input_ids"] == ids
    ids = ids[-16:]
    from glassgpt.generation.sampling import Sampling

    prompt = gpt.tokenizer.decode(ids)
    ours = [*gpt.ids("One day", 12, Sampling(temperature=0))]
    start = torch.tensor([gpt.tokenizer.encode("One day")])
    greedy = theirs.generate(start, max_new_tokens=12, do_sample=False, pad_token_id=0)[0, start.shape[1] :].tolist()
    if ours != greedy[: len(ours)]:  # the first difference must be a tie
        first = next(n for n, (a, b) in enumerate(zip(ours, greedy, strict=False)) if a != b)
        with torch.no_grad():
            logits = theirs(torch.cat([start, torch.tensor([greedy[:first]], dtype=torch.int64)], 1)).logits[0, -1]
        assert abs(logits[ours[first]] - logits[greedy[first]]) < 1e-4


def test_the_best_the_latest_and_the_one_before_are_kept_and_the_rest_pruned(story_file: Path) -> None:
    run = glassgpt.train(story_file, steps=20, run={"eval_every": 4}, **SMALL)
    record = json.loads((run.directory / "run.json").read_text())
    steps = {int(path.name[5:]) for path in run.directory.glob("step-*")}
    assert steps == {record["best"]["step"], record["latest"]["step"], 16}
    scores = {line.step: line.val_bpb for line in run.history if line.val_bpb is not None}
    assert record["best"]["step"] == min(scores, key=lambda step: scores[step])


def test_a_learning_rate_that_explodes_stops_before_the_update_and_keeps_the_checkpoints(story_file: Path) -> None:
    says = r"stopped at step \d+ before its update: .* try lower learning rates .*checkpoint is exploding/step-"
    with pytest.raises(TrainingFailed, match=says):
        glassgpt.train(
            story_file,
            steps=200,
            out="exploding",
            model=SMALL["model"] | {"architecture": "gpt2"},
            optim={"batch_size": 4, "learning_rate": 1e30, "warmup": 0, "grad_clip": 0},
            run={"save_every": 1},
        )
    assert Path("exploding/skipped.jsonl").read_text().count("\n") == 3
    gpt = glassgpt.load("exploding")
    assert all(bool(p.isfinite().all()) for p in gpt.model.parameters())


@pytest.mark.thorough
def test_a_resumed_run_keeps_its_settings_and_says_so(story_file: Path) -> None:
    with pytest.raises(Interrupted):
        glassgpt.train(story_file, steps=20, out="run", listener=StopAt(3), **SMALL)
    with pytest.raises(InputError, match=r"data\.tokenizer is gpt2, but run was begun with auto"):
        glassgpt.train(resume="run", tokenizer="gpt2")
    with pytest.raises(InputError, match=r"model.n_layers is 9, but .* begun with 2"):
        glassgpt.train(resume="run", model={"n_layers": 9})
    longer = glassgpt.train(resume="run", steps=30)
    assert longer.measured.steps == 30
    with pytest.raises(InputError, match="has done 30 steps of 30"):
        glassgpt.train(resume="run")


@pytest.mark.thorough
def test_a_run_that_was_stopped_after_its_last_step_is_finished(story_file: Path) -> None:
    whole = glassgpt.train(story_file, steps=12, out="whole", run={"eval_every": 6}, **SMALL)
    with pytest.raises(Interrupted):
        glassgpt.train(story_file, steps=12, out="parts", run={"eval_every": 6}, listener=StopAt(12), **SMALL)
    assert not Path("parts/report.json").exists()
    with pytest.raises(InputError, match="has done 12 steps of 5: give more with --steps"):
        glassgpt.train(resume="parts", steps=5)
    parts = glassgpt.train(resume="parts")
    assert parts.bits_per_byte == whole.bits_per_byte
    assert [(line.step, line.loss, line.val_bpb) for line in parts.history] == [
        (line.step, line.loss, line.val_bpb) for line in whole.history
    ]
    assert Path("parts/samples.txt").read_text() == Path("whole/samples.txt").read_text()
    assert parts.report == Path("parts/report.html")
    with pytest.raises(InputError, match="has done 12 steps of 12"):
        glassgpt.train(resume="parts")
    with pytest.raises(Interrupted):
        glassgpt.train(resume="parts", steps=18, listener=StopAt(18))
    assert glassgpt.train(resume="parts").measured.steps == 18, "the report that is there is of fewer steps"


@pytest.mark.thorough
def test_damaged_settings_and_a_damaged_prepared_text_cost_nothing(story_file: Path, own_folder: Path) -> None:
    whole = glassgpt.train(story_file, steps=6, out="whole", **SMALL)
    notes: list[str] = []

    class Notes(Silent):
        def planned(self, start: Start, *_: Any) -> None:
            notes.extend(start.notes)

    for number, damage in enumerate((
        lambda content: content.replace(b"batch_size: ", b"batch_size: 1"), lambda content: content + b"\n",
        lambda content: content.replace(b"\n", b"\r\n"), lambda content: b"",
    )):
        run, shard = Path(f"run-{number}"), own_folder / "cache" / read_settings(whole.directory).prepared / "val.shard"
        with pytest.raises(Interrupted):
            glassgpt.train(story_file, steps=6, out=run, listener=StopAt(3), **SMALL)
        sound = (run / "config.yaml").read_bytes(), shard.read_bytes()
        assert damage(sound[0]) != sound[0]
        (run / "config.yaml").write_bytes(damage(sound[0]))
        shard.write_bytes(sound[1][:-1] + b"x")
        notes.clear()
        assert glassgpt.train(resume=run, listener=Notes()).bits_per_byte == whole.bits_per_byte
        assert any("the copy in run-" in note for note in notes)
        assert any("val.shard" in note for note in notes)
        assert ((run / "config.yaml").read_bytes(), shard.read_bytes()) == sound
        assert weights(run) == weights(whole.directory)
    with pytest.raises(InputError, match=r"run\.seed is 5, but run-0 was begun with 1337"):
        glassgpt.train(resume="run-0", steps=9, seed=5)


@pytest.mark.thorough
def test_resuming_with_another_tokenizer_in_the_checkpoint_is_refused(story_file: Path) -> None:
    with pytest.raises(Interrupted):
        glassgpt.train(story_file, steps=20, out="run", listener=StopAt(3), tokenizer="bpe:300", **SMALL)
    other = glassgpt.train(story_file, steps=1, out="other", tokenizer="bpe:301", **SMALL)
    change_settings(Path("run"), prepared=read_settings(other.directory).prepared)
    with pytest.raises(InputError, match="was trained with another tokenizer"):
        glassgpt.train(resume="run")


@pytest.mark.thorough
def test_a_text_that_changed_since_is_refused_on_resume(story_file: Path, own_folder: Path) -> None:
    text = own_folder / "text.txt"
    text.write_text(story_file.read_text())
    with pytest.raises(Interrupted):
        glassgpt.train(text, steps=20, out="run", listener=StopAt(3), **SMALL)
    text.write_text(story_file.read_text() + "More.")
    assert glassgpt.train(resume="run").measured.steps == 20, "the cache still has the old text"
    import shutil

    shutil.rmtree(own_folder / "cache")
    with pytest.raises(InputError, match="has changed since this run began"):
        glassgpt.train(resume="run", steps=30)


@pytest.mark.thorough
def test_a_loaded_model_writes_and_measures(story_file: Path) -> None:
    run = glassgpt.train(story_file, steps=10, **SMALL)
    gpt = glassgpt.load(run.directory)
    text = gpt.generate("Once", max_new_tokens=40, seed=3)
    assert text.startswith("Once")
    assert text == "Once" + "".join(gpt.stream("Once", 40, seed=3))
    assert text != gpt.generate("Once", max_new_tokens=40, seed=4)
    assert 0 < gpt.bits_per_byte("A fox met a bear.") < 12
    with pytest.raises(InputError, match="the prompt has"):
        gpt.generate("many words " * 100)
    measured = gpt.evaluate_ids(gpt.tokenizer.encode_to_numpy("A fox met."))
    assert measured.bits_per_byte == gpt.bits_per_byte("A fox met.")
