"""What DIR means, which checkpoint is the best and the latest, what is kept, and where a run goes on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import forked
import pytest
from forked import needs_fork
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import CONFIGS, random_model

from glassgpt.checkpoint.directory import TrainerState, save_checkpoint
from glassgpt.checkpoint.run import KEPT, RunDirectory, find_checkpoint, find_run, new_run
from glassgpt.checkpoint.run_settings import write_settings
from glassgpt.config import Settings
from glassgpt.files.lock import HAS_LOCKS
from glassgpt.settings import InputError

MODEL = random_model(CONFIGS["gpt2"])


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def make_run(name: str, **val_bpb: float | None) -> RunDirectory:
    """A run whose checkpoints are `s<step>=<bits per byte>`."""
    run = new_run(None, name)
    for step, value in val_bpb.items():
        add(run, int(step[1:]), value)
    return run


def add(run: RunDirectory, step: int, val_bpb: float | None) -> None:
    save_checkpoint(run.checkpoint_path(step), MODEL, None, TrainerState(counters={"step": step}))
    run.record(step, None)
    if val_bpb is not None:
        run.record(step, val_bpb)


def damage(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").write_bytes(b"")


def test_a_run_stands_for_its_best_checkpoint() -> None:
    run = make_run("book", s100=2.0, s200=1.5, s300=1.7)
    assert find_checkpoint("runs/book") == Path("runs/book/step-00000200")
    assert find_checkpoint("runs/book/") == Path("runs/book/step-00000200")
    assert find_checkpoint("runs/book/best") == Path("runs/book/step-00000200")
    assert find_checkpoint("runs/book/latest") == Path("runs/book/step-00000300")
    assert find_checkpoint("runs/book/step-00000100") == Path("runs/book/step-00000100")
    assert (run.best, run.latest) == (run.checkpoint_path(200), run.checkpoint_path(300))
    assert json.loads(Path("runs/book/run.json").read_text()) == {
        "latest": {"step": 300, "val_bpb": 1.7},
        "best": {"step": 200, "val_bpb": 1.5},
    }
    assert os.readlink("runs/book/best") == "step-00000200"


def test_without_an_evaluation_a_run_stands_for_its_latest_intact_checkpoint() -> None:
    run = make_run("book", s1=None, s2=None, s3=None)
    damage(run.checkpoint_path(3))
    assert run.best is None
    assert find_checkpoint("runs/book") == run.checkpoint_path(2)


def test_links_may_be_text_files() -> None:
    make_run("book", s1=2.0, s2=3.0)
    for name, step in (("best", "step-00000001"), ("latest", "step-00000002")):
        Path("runs/book", name).unlink()
        Path("runs/book", name).write_text(f"{step}\n")
        assert find_checkpoint(f"runs/book/{name}") == Path("runs/book", step)


def test_the_newest_run_is_meant_when_none_is_named() -> None:
    make_run("first", s1=2.0)
    second = make_run("second", s1=2.0)
    make_run("empty")
    os.utime("runs/first/run.json", (1, 1))
    assert find_checkpoint(None) == second.checkpoint_path(1)
    assert find_run(None).path == second.path
    os.utime("runs/second/run.json", (0, 0))
    assert find_checkpoint(None) == Path("runs/first/step-00000001")


def test_any_model_directory_is_one() -> None:
    save_checkpoint(Path("mine"), MODEL, None)
    assert find_checkpoint("mine") == Path("mine")


@pytest.mark.parametrize(
    ("directory", "message"),
    [
        (None, "no run in runs/ yet: make one with `glassgpt train`"),
        ("nowhere", "no directory nowhere: give a run"),
        ("folder", r"folder is no model: .*config\.json, model\.safetensors and tokenizer\.json"),
        ("file.txt", r"file\.txt is a file"),
        ("x\0y", "no directory|cannot open"),
        ("y" * 5000, "no directory|cannot open"),
    ],
)
def test_what_is_no_model_is_answered_in_one_line(directory: str | None, message: str) -> None:
    Path("folder").mkdir()
    Path("file.txt").write_text("text")
    with pytest.raises(InputError, match=message) as refused:
        find_checkpoint(directory)
    assert "\n" not in str(refused.value)


def test_a_misspelt_run_is_answered_with_the_nearest() -> None:
    make_run("shakespeare", s1=1.0)
    for typed in ("runs/shakespear", "shakespeare", "runs/Shakespeare", "shakspeare"):
        with pytest.raises(InputError, match=r"no directory .*: did you mean runs/shakespeare\?"):
            find_checkpoint(typed)


def test_the_best_the_latest_and_the_one_before_are_kept_and_the_rest_is_pruned() -> None:
    run = make_run("book", s1=3.0, s2=1.0, s3=2.0, s4=2.0, s5=None)
    run.prune()
    assert run.checkpoints() == [run.checkpoint_path(step) for step in (2, 4, 5)]
    assert len(run.checkpoints()) == KEPT
    run.record(5, 0.5)
    run.prune()
    assert run.checkpoints() == [run.checkpoint_path(4), run.checkpoint_path(5)]
    others = {path.name for path in run.path.iterdir() if not path.name.startswith("step-")}
    assert others == {"best", "latest", "run.json"}


def test_a_later_checkpoint_that_is_broken_is_never_kept_for_the_one_recorded() -> None:
    run = make_run("book", s1=3.0, s2=None, s3=None)
    damage(run.checkpoint_path(3))
    add(run, 2, None)  # went on from step 1
    assert run.latest == run.checkpoint_path(2)
    run.prune()
    assert run.checkpoints() == [run.checkpoint_path(1), run.checkpoint_path(2)]


def test_not_a_number_is_never_the_best() -> None:
    run = make_run("book", s1=float("nan"), s2=2.0, s3=float("nan"), s4=float("inf"))
    assert run.best == run.checkpoint_path(2)
    json.loads((run.path / "run.json").read_text(), parse_constant=pytest.fail)


def test_a_best_that_is_measured_again_takes_the_new_value() -> None:
    run = make_run("book", s1=2.0, s2=1.0)
    run.record(2, 1.5)
    run.record(3, 1.2)
    assert json.loads((run.path / "run.json").read_text())["best"] == {"step": 3, "val_bpb": 1.2}


NO_RECORDS = [
    b'{"best": 3}', b'{"best": {"step": "x"}}', b"[]", b'{"latest": {}}', b'{"best": {"step": 1}}',
    b'{"best": {"step": 1, "val_bpb": 1e400}}', b'{"best": {"step": -1, "val_bpb": 1.0}}', b'{"a":' * 100_000,
    b'{"latest": {"step": 1' + b"0" * 4000 + b', "val_bpb": null}}',
]  # fmt: skip


@given(st.binary(max_size=60) | st.sampled_from(NO_RECORDS))
def test_a_damaged_run_json_hides_no_checkpoint(content: bytes) -> None:
    path = Path("runs/book")
    run = RunDirectory(path) if path.exists() else make_run("book", s1=2.0, s2=None)
    (path / "run.json").write_bytes(content)
    assert run.model() in run.checkpoints()
    assert run.latest == run.checkpoint_path(2)
    run.record(2, 1.5)


def test_training_goes_on_from_the_newest_intact_checkpoint() -> None:
    run = make_run("book", s1=3.0, s2=2.0, s3=1.0, s4=0.5, s5=0.4)
    damage(run.checkpoint_path(5))
    (run.checkpoint_path(4) / "manifest.json").unlink()
    save_checkpoint(run.checkpoint_path(3), MODEL, None)
    point = run.resume_point()
    assert point.checkpoint == run.checkpoint_path(2)
    assert ["model.safetensors" in point.passed_over[0], "manifest" in point.passed_over[1],
            "no trainer state" in point.passed_over[2]] == [True] * 3  # fmt: skip
    assert not [line for line in point.passed_over if "delete" in line], "resuming takes none without its manifest"


def test_a_checkpoint_of_another_step_or_another_run_is_passed_over() -> None:
    run = make_run("book", s1=3.0)
    for step, counters in ((2, {"step": 1}), (3, {"step": 3, "run_id": "b"}), (4, {"step": "x"}), (5, {})):
        save_checkpoint(run.checkpoint_path(step), MODEL, None, TrainerState(counters=counters))
    point = run.resume_point("a")
    assert point.checkpoint == run.checkpoint_path(1), "one without a run's id is of an older version"
    whys = ("does not say how far", "does not say how far", "is of another run than", "holds step 1")
    assert all(why in said for why, said in zip(whys, point.passed_over, strict=True))
    assert run.resume_point().checkpoint == run.checkpoint_path(3)


def test_nothing_to_go_on_from_says_why() -> None:
    run = make_run("book", s1=1.0)
    damage(run.checkpoint_path(1))
    with pytest.raises(InputError, match=r"to go on from \(.*model\.safetensors.*--config runs/book/config.yaml"):
        run.resume_point()
    with pytest.raises(InputError, match="empty is no run with a checkpoint in it"):
        find_run(make_run("empty").path)


def test_a_run_is_found_from_its_checkpoint_or_links() -> None:
    make_run("book", s1=1.0)
    for typed in ("runs/book", "runs/book/step-00000001", "runs/book/best", "runs/book/latest"):
        assert find_run(typed).path == Path("runs/book")


def test_new_runs_never_share_a_directory() -> None:
    assert [new_run(None, "book").path.name for _ in range(3)] == ["book", "book-2", "book-3"]
    assert new_run("elsewhere/mine", "book").path == Path("elsewhere/mine")
    Path("full").mkdir()
    Path("full/letter").write_text("")
    with pytest.raises(InputError, match="--out full is not empty: choose another, or go on with --resume full"):
        new_run("full", "book")
    with pytest.raises(InputError, match="cannot make the directory"):
        new_run("full/letter", "book")


def test_a_new_run_may_have_the_place_of_one_that_was_killed_before_its_first_checkpoint() -> None:
    chosen = Settings.from_dict({"text": ["pydoc"]})
    left = new_run("mine", "book").path
    (left / ".config.yaml.partial-7").write_text("#")
    assert new_run("mine", "book").path == left
    write_settings(left, chosen)
    (left / "metrics.jsonl").write_text("half a li")
    (left / ".plan.json.partial-7").write_text("{")
    assert new_run("mine", "book").path == left
    assert {path.name for path in left.iterdir()} == {"config.yaml", "metrics.jsonl"}
    for name in ("letter.txt", "step-00000001"):
        (left / name).mkdir()
        with pytest.raises(InputError, match="--out mine is not empty"):
            new_run("mine", "book")
        (left / name).rmdir()
    (left / "config.yaml").write_text("run: {steps: 5}\n# somebody's own\n")
    with pytest.raises(InputError, match="--out mine is not empty"):
        new_run("mine", "book")


def test_steps_are_sorted_as_numbers() -> None:
    run = make_run("book", s99999999=None, s100000000=None, s5=None)
    assert [path.name for path in run.checkpoints()] == ["step-00000005", "step-99999999", "step-100000000"]


def test_finding_a_run_needs_no_torch() -> None:
    program = "import sys, glassgpt.checkpoint.run; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.skipif(not HAS_LOCKS, reason="this system has no locks of folders")
@needs_fork
def test_one_process_at_a_time_trains_in_a_run() -> None:
    held = new_run("mine", "book")

    def another() -> None:
        with pytest.raises(InputError, match="another process is training in mine"):
            new_run("mine", "book")
        with pytest.raises(InputError, match="another process is training in mine"):
            RunDirectory(Path("mine")).hold()

    forked.run(another)
    held.release()
    held.release()
    forked.run(lambda: RunDirectory(Path("mine")).hold())
    new_run("mine", "book")
    new_run("mine", "book")
