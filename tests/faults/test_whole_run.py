"""Whole runs: damage of every sort is found and said, and the last interval comes out the same a second time."""

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import glassgpt
from glassgpt.api.replay import replay
from glassgpt.api.train import Silent
from glassgpt.api.verify import Verified, verify_run
from glassgpt.checkpoint.directory import TrainerState, load_model, load_trainer_state, save_checkpoint
from glassgpt.checkpoint.run import RunDirectory
from glassgpt.checkpoint.run_settings import read_settings
from glassgpt.cli.main import run as command
from glassgpt.files.manifest import verify_checkpoint
from glassgpt.settings import InputError
from glassgpt.text.stories import write_stories
from glassgpt.text.tokenizer import Tokenizer
from glassgpt.training.interruption import Interrupted
from glassgpt.training.metrics import Metrics

pytestmark = pytest.mark.thorough
TINY = {"n_layers": 2, "embedding_dim": 16, "n_heads": 2, "context_length": 32}
Damage = Callable[[Path], object]
NEWEST = "step-00000018"


class StopAt(Silent):
    """Sends SIGINT to this process after a step, as Ctrl-C does."""

    def __init__(self, step: int) -> None:
        self.step = step

    def stepped(self, metrics: Metrics) -> None:
        if metrics.step == self.step:
            signal.raise_signal(signal.SIGINT)


def trained(folder: Path, name: str, stops: tuple[int, ...] = (), **more: Any) -> Path:
    """A small run, stopped after each of the steps `stops` and gone on with, but after the last."""
    kept: dict[str, Any] = {"log_every": 1, "eval_every": 6, "threads": 1} | more.pop("run", {})
    optim = {"batch_size": 4, "warmup": 2} | more.pop("optim", {})
    model = more.pop("model", TINY)
    arguments = {"tokenizer": "bytes", "model": model, "optim": optim, "run": kept, "out": folder / name} | more
    arguments |= {"data": {"cache": str(folder / "cache")}}
    if "minutes" not in arguments:
        arguments |= {"steps": 24}
    if not stops:
        glassgpt.train(folder / "tales.txt", **arguments)
    for step in stops:
        begun = (folder / name).exists()
        goes_on: dict[str, Any] = {"resume": folder / name, "trust_code": True}
        with pytest.raises(Interrupted):
            glassgpt.train(**(goes_on if begun else arguments | {"text": folder / "tales.txt"}), listener=StopAt(step))
    return folder / name


class Ticking:
    """A clock that is a little later each time it is looked at."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        self.now += 0.02
        return self.now


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    (folder / "tales.txt").write_text("\n".join(write_stories(60, seed=1)), encoding="utf-8")
    trained(folder, "night", stops=(12, 21))
    trained(folder, "sister", stops=(12, 21), seed=2)
    trained(folder, "whole")
    return folder


@pytest.fixture
def night(home: Path, tmp_path: Path) -> Path:
    """A run that was stopped at step 21 of 24, with checkpoints of steps 18 and 21; a copy to break."""
    shutil.copytree(home / "night", tmp_path / "night", symlinks=True)
    return tmp_path / "night"


def checked(run: Path) -> Verified:
    return verify_run(RunDirectory(run))


def altered(name: str, at: int = -40) -> Damage:
    def damage(run: Path) -> None:
        content = bytearray((run / name).read_bytes())
        content[at] ^= 16
        (run / name).write_bytes(content)

    return damage


def resaved(step: int, change: Callable[[Any, dict[str, Any], dict[str, Any]], object], as_step: int = 0) -> Damage:
    """The checkpoint with its model, tensors and counters changed, and a manifest that fits."""

    def damage(run: Path) -> None:
        place = RunDirectory(run).checkpoint_path(step)
        model, state = load_model(place), load_trainer_state(place)
        tensors, counters = dict(state.tensors), dict(state.counters)
        change(model, tensors, counters)
        changed = TrainerState(tensors=tensors, counters=counters)
        to = RunDirectory(run).checkpoint_path(as_step or step)
        save_checkpoint(to, model, Tokenizer.load(place), changed)

    return damage


def not_finite(model: Any, tensors: dict[str, Any], counters: dict[str, Any]) -> None:
    model.output_head.weight.data[3, 1] = float("nan")


def state_not_finite(model: Any, tensors: dict[str, Any], counters: dict[str, Any]) -> None:
    next(iter(tensors.values())).reshape(-1)[0] = float("inf")


def swapped_lines(run: Path) -> None:
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    lines[3], lines[4] = lines[4], lines[3]
    (run / "metrics.jsonl").write_text("".join(lines))


def of_the_sister(name: str) -> Damage:
    def damage(run: Path) -> None:
        theirs = run.parent / "home" / "sister" / name
        shutil.rmtree(run / name) if theirs.is_dir() else None
        shutil.copytree(theirs, run / name) if theirs.is_dir() else shutil.copy(theirs, run / name)

    return damage


def values(name: str, **changed: Any) -> Damage:
    def damage(run: Path) -> None:
        (run / name).write_text(json.dumps(json.loads((run / name).read_bytes()) | changed))

    return damage


def of_the_text(do: Callable[[Path], object]) -> Damage:
    def damage(run: Path) -> None:
        do(Path(read_settings(run).data.cache or "") / read_settings(run).prepared)

    return damage


LATEST = "step-00000021"
DAMAGES: dict[str, tuple[Damage, str, int | None, int]] = {
    "settings": (altered("config.yaml"), "config.yaml was altered", 21, 18),
    "settings of another run": (of_the_sister("config.yaml"), f"{LATEST} is of another run than", None, 18),
    "weights": (altered(f"{LATEST}/model.safetensors"), "model.safetensors was altered", 18, 18),
    "trainer state": (altered(f"{LATEST}/trainer/state.safetensors"), "state.safetensors was altered", 18, 18),
    "tokenizer": (altered(f"{LATEST}/tokenizer.json"), "tokenizer.json was altered", 18, 18),
    "best": (altered("step-00000018/model.safetensors"), "model.safetensors was altered", 21, 21),
    "a weight that is no number": (resaved(21, not_finite), "not finite, in ", 18, 18),
    "a moment that is no number": (resaved(21, state_not_finite), "not finite, in ", 18, 18),
    "a step under another name": (resaved(21, lambda *parts: None, as_step=24), "holds step 21", 21, 18),
    "a checkpoint of another run": (of_the_sister(LATEST), "is of another run than", 18, 18),
    "metrics out of order": (swapped_lines, "metrics.jsonl is out of order", 21, 18),
    "metrics": (altered("metrics.jsonl", 2), "1 of 20 lines", 21, 18),
    "run.json of what is not there": (
        values("run.json", best={"step": 3, "val_bpb": 1.0}), "names a best checkpoint that is not there", 21, 21
    ),
    "run.json gone": (lambda run: (run / "run.json").unlink(), "run.json is gone", 21, 21),
    "plan": (altered("plan.json", 0), "plan.json holds no JSON object", 21, 18),
}  # fmt: skip
"""What is done to a run; what is said; which step it goes on from then, and which it writes with."""


def seen_by_the_manifests(run: Path) -> bool:
    """Whether what was checked before, the sums of each checkpoint, shows any damage."""
    try:
        for checkpoint in RunDirectory(run).checkpoints():
            verify_checkpoint(checkpoint)
    except InputError:
        return True
    return False


def test_damage_is_found_and_what_is_left_is_said(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], tally
) -> None:
    (tmp_path / "home").symlink_to(home)
    assert checked(home / "night").wrong == []
    wrong, control = [], 0
    for number, (name, (damage, said, resumes, writes)) in enumerate(DAMAGES.items()):
        run = tmp_path / str(number)
        shutil.copytree(home / "night", run, symlinks=True)
        damage(run)
        found = checked(run)
        control += seen_by_the_manifests(run)
        as_foretold = found.resumes_from == resumes and found.writes_with == RunDirectory(run).checkpoint_path(writes)
        printed = command(["data", "verify", str(run)]) == 2 and said in " ".join(capsys.readouterr().out.split())
        if not (as_foretold and printed and any(said in finding.evidence for finding in found.wrong)):
            wrong.append((name, found))
    said = f"by the manifests alone: {control} of {len(DAMAGES)} seen"
    tally("run", "damage of another sort", len(DAMAGES), len(wrong), control=said)
    assert wrong == []
    assert 0 < control < len(DAMAGES)


def test_the_doctor_says_the_same_and_what_is_left(night: Path, capsys: pytest.CaptureFixture[str]) -> None:
    swapped_lines(night)
    assert command(["doctor", str(night)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "metrics.jsonl is out of order" in said
    assert "what is left go on from step 21" in said
    assert command(["data", "verify", str(night), "--json"]) == 2
    out, err = capsys.readouterr()
    values = json.loads(out)
    assert (values["intact"], values["resumes_from"], values["finished"]) == (False, 21, False)
    assert [finding["name"] for finding in values["findings"]] == ["unreadable_file"]
    assert len(err.splitlines()) == 1


def test_what_is_said_of_going_on_and_of_writing_comes_true(night: Path, capsys: pytest.CaptureFixture[str]) -> None:
    altered(f"{LATEST}/model.safetensors")(night)
    assert (checked(night).resumes_from, checked(night).done_again) == (18, 3)
    with pytest.raises(Interrupted):
        glassgpt.train(resume=night, listener=StopAt(20))
    assert checked(night).resumes_from == 20
    altered("step-00000018/model.safetensors")(night)
    with pytest.raises(InputError, match=r"step-00000018/model.safetensors was altered .*: take .*20, which is intact"):
        glassgpt.load(night)
    assert glassgpt.load(checked(night).writes_with)


def test_a_prepared_text_that_is_gone_or_damaged_can_be_prepared_again_while_the_text_is_there(home: Path) -> None:
    run = home / "night"
    prepared = Path(read_settings(run).data.cache or "") / read_settings(run).prepared
    kept, text = home / "kept", home / "tales.txt"
    shutil.copytree(prepared, kept)
    altered("train.shard")(prepared)
    (damage,) = checked(run).wrong
    assert (damage.name, checked(run).resumes_from) == ("damaged_text", 21)
    assert f"delete {prepared}" in damage.do
    shutil.rmtree(prepared)
    assert checked(run).wrong == []
    assert any("prepared again from" in check.found for check in checked(run).checks)
    text.rename(home / "elsewhere")
    (damage,) = checked(run).wrong
    assert (damage.name, checked(run).resumes_from) == ("lost_text", None)
    assert checked(home / "whole").wrong == [], "a finished run can do without"
    (home / "elsewhere").rename(text)
    kept.rename(prepared)
    assert checked(run).wrong == []


def test_what_a_killed_save_left_is_no_damage(night: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (night / ".step-00000024.partial-7").mkdir()
    assert [finding.name for finding in checked(night).wrong] == ["killed_save"]
    assert command(["data", "verify", str(night), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert (values["intact"], values["resumes_from"]) == (True, 21)


def tree(run: Path) -> dict[str, tuple[int, int]]:
    places = [path for path in run.rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in places}


def test_a_replay_of_a_sound_run_is_identical_and_touches_nothing(home: Path) -> None:
    for name, steps in (("night", (18, 21)), ("whole", (18, 24))):
        before = tree(home / name)
        found = replay(RunDirectory(home / name))
        assert found.identical, found
        assert (found.first, found.last) == steps
        assert (found.n_lines, found.weights_at) == (steps[1] - steps[0] - (name == "night"), steps[1])
        assert tree(home / name) == before


def test_a_replay_goes_on_to_what_was_logged_after_the_newest_checkpoint(night: Path) -> None:
    shutil.rmtree(night / LATEST)
    found = replay(RunDirectory(night))
    assert (found.first, found.last, found.n_lines, found.weights_at) == (18, 20, 2, None)
    assert found.identical
    lines = (night / "metrics.jsonl").read_text().splitlines(keepends=True)
    (night / "metrics.jsonl").write_text("".join(lines[:18]))
    found = replay(RunDirectory(night))
    assert (found.first, found.last, found.n_lines, found.weights_at) == (0, 18, 18, 18), "from its first step"
    assert found.identical


RESTLESS = """
import time
from glassgpt.model import GPTModel

class Model(GPTModel):
    def hidden(self, ids, cache=None):
        return super().hidden(ids, cache) * (1 + 1e-4 * (time.perf_counter() % 1))
"""
STUMBLING = """
from glassgpt.model import GPTModel

class Model(GPTModel):
    def hidden(self, ids, cache=None):
        found = super().hidden(ids, cache)
        return found * float("nan") if self.training and int(ids.sum()) % 6 == 2 else found
"""
SORTS: dict[str, dict[str, Any]] = {
    "averaged": {"optim": {"average_share": 0.5, "name": "muon"}},
    "with dropout": {"model": TINY | {"dropout_rate": 0.2}, "run": {"kernel": "torch"}},
    "accumulated": {"optim": {"accumulation": 2, "name": "adamw"}},
    "two threads, bf16": {"run": {"threads": 2, "dtype": "bf16"}},
    "of minutes": {"minutes": 0.25, "clock": Ticking(), "run": {"log_every": 5, "eval_every": 0}},
}


def test_every_sort_of_run_is_replayed_identically_and_a_restless_model_is_not(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], tally
) -> None:
    (tmp_path / "tales.txt").write_bytes((home / "tales.txt").read_bytes())
    wrong = []
    for name, more in SORTS.items():
        found = replay(RunDirectory(trained(tmp_path, name, () if "minutes" in more else (7, 15, 22), **more)))
        if not (found.identical and found.weights_at and found.n_lines):
            wrong.append((name, found))
    (tmp_path / "stumbling.py").write_text(STUMBLING)  # its steps are skipped, by their text
    run = trained(tmp_path, "stumbling", (7, 15, 22), run={"code": str(tmp_path / "stumbling.py")})
    found = replay(RunDirectory(run), trust_code=True)
    skipped = [json.loads(line)["step"] for line in (run / "skipped.jsonl").read_text().splitlines()]
    assert found.first < skipped[-1] <= found.last
    if not found.identical:
        wrong.append(("with skipped steps", found))
    (tmp_path / "restless.py").write_text(RESTLESS)  # the negative control: it takes something from elsewhere
    run = trained(tmp_path, "restless", stops=(7, 15), run={"code": str(tmp_path / "restless.py")})
    with pytest.raises(InputError, match="was trained with code of its own"):
        replay(RunDirectory(run))
    restless = replay(RunDirectory(run), trust_code=True)
    said = f"a model that looks at the clock: differs from step {restless.differs_at} on, of 13 to 15"
    tally("run", "replayed bit for bit, of a sort", len(SORTS) + 1, len(wrong), control=said)
    assert wrong == []
    assert restless.differs_at == 13
    assert command(["doctor", str(run), "--verify-resume", "--trust-code"]) == 1
    assert "differs" in capsys.readouterr().out


def test_code_that_changed_is_refused_before_it_runs(home: Path, tmp_path: Path) -> None:
    (tmp_path / "tales.txt").write_bytes((home / "tales.txt").read_bytes())
    (tmp_path / "stumbling.py").write_text(STUMBLING)
    run = trained(tmp_path, "stumbling", (7,), run={"code": str(tmp_path / "stumbling.py")})
    assert checked(run).wrong == []
    (run / "code.py").write_text("raise AssertionError('it ran')")
    assert [finding.name for finding in checked(run).wrong] == ["damaged_code"]
    assert checked(run).resumes_from is None
    changed = r"code\.py was altered .*: copy .*step-0000000\d/code\.py there"
    with pytest.raises(InputError, match=changed):
        replay(RunDirectory(run), trust_code=True)
    with pytest.raises(InputError, match=changed):
        glassgpt.train(resume=run, trust_code=True)


def test_a_replay_passes_over_what_is_damaged_and_says_so(night: Path, capsys: pytest.CaptureFixture[str]) -> None:
    altered("step-00000018/model.safetensors")(night)
    assert command(["doctor", str(night), "--verify-resume"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "steps 1 to 21 replayed" in said
    assert "step-00000018/model.safetensors was altered" in said
    assert "identical" in said
    altered(f"{LATEST}/model.safetensors")(night)
    assert command(["doctor", str(night), "--verify-resume"]) == 2
    assert "no sound checkpoint to replay from: `glassgpt data verify" in capsys.readouterr().err


def test_a_line_that_was_changed_is_named_and_told_from_other_weights(
    night: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [json.loads(line) for line in (night / "metrics.jsonl").read_text().splitlines()]
    lines[19]["loss"] += 1e-12  # step 20
    lines.append(lines[-1] | {"step": 10**9})  # and of steps that never were
    (night / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = replay(RunDirectory(night))
    assert (found.differs_at, found.only_the_log) == (20, True)
    resaved(21, lambda model, *others: model.output_head.weight.data[0, 0].mul_(1.0001))(night)
    found = replay(RunDirectory(night))
    assert (found.differs_at, found.only_the_log) == (20, False)


def test_what_was_computed_elsewhere_is_not_called_a_mistake(night: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def moved(model: Any, tensors: dict[str, Any], counters: dict[str, Any]) -> None:
        counters["computed_with"] = "PyTorch 2.11.0 on another processor"
        model.output_head.weight.data[0, 0].mul_(1.0001)

    resaved(21, moved)(night)
    found = replay(RunDirectory(night))
    assert not found.identical
    assert (found.elsewhere or "").startswith("PyTorch 2.11.0 on another processor then, PyTorch")
    assert command(["doctor", str(night), "--verify-resume"]) == 0
    assert "not comparable bit for bit" in " ".join(capsys.readouterr().out.split())


def test_verifying_a_run_needs_no_torch(home: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from glassgpt.checkpoint.run import RunDirectory;"
        "from glassgpt.api.verify import verify_run; assert not verify_run(RunDirectory(Path(sys.argv[1]))).wrong;"
        "sys.exit('torch' in sys.modules)"
    )
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", program, str(home / "night")]) == 0
