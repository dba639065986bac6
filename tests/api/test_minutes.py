"""Runs of minutes, on a clock that the test moves: they end when they should, and their plan can be repeated."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_runs import StopAt, change_settings, weights

import glassgpt
from glassgpt import InputError
from glassgpt.api import choice
from glassgpt.api import minutes as minutes_of
from glassgpt.api.train import Silent
from glassgpt.data.batches import Batches
from glassgpt.evaluation.bits_per_byte import Evaluation
from glassgpt.optim.schedule import StepPlan
from glassgpt.planning.choose import Speed
from glassgpt.training.interruption import Interrupted
from glassgpt.training.loop import Progress

TINY: dict[str, Any] = {
    "tokenizer": "bytes",
    "model": {"embedding_dim": 16, "n_heads": 1, "n_layers": 1, "context_length": 16},
    "optim": {"batch_size": 4, "warmup": 2, "learning_rate": 3e-3},
    "run": {"threads": 1},
}


BATCH = Batches.batch


class Clock:
    """Time that passes only where the test says so. A step takes `step` seconds, from `later` on another number."""

    def __init__(self, step: float, later: tuple[float, float] | None = None) -> None:
        self.now, self.step, self.later = 100.0, step, later

    def __call__(self) -> float:
        return self.now

    def pass_a_step(self) -> None:
        slower = self.later is not None and self.now - 100 >= self.later[0]
        self.now += self.later[1] if self.later and slower else self.step


def use(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Let a step's batch take the clock's time, on a machine of a known speed."""

    def batch(self: Batches, step: int) -> Any:
        clock.pass_a_step()
        return BATCH(self, step)

    monkeypatch.setattr(Batches, "batch", batch)
    speed = Speed(flops_per_s=1e11, seconds_per_layer=5e-4)
    monkeypatch.setattr("glassgpt.api.choice.machine_speed", lambda run: speed)
    return clock


def settings_of(run: str) -> dict[str, Any]:
    return yaml.safe_load(Path(run, "config.yaml").read_text())


class Seen(Silent):
    """Notes when evaluations and new plans come."""

    def __init__(self) -> None:
        self.evaluated_at: list[int] = []
        self.plans: list[StepPlan] = []
        self.recorded: list[Any] = []

    def evaluated(self, progress: Progress, evaluation: Evaluation, sample: str) -> None:
        self.evaluated_at.append(progress.step)

    def replanned(self, plan: StepPlan) -> None:
        self.plans.append(plan)
        self.recorded.append(settings_of("a")["plan"])


def test_a_run_of_minutes_ends_on_time_and_records_its_plan(story_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, seen = use(Clock(0.5), monkeypatch), Seen()
    run = glassgpt.train(story_file, minutes=0.5, out="a", clock=clock, listener=seen, **TINY)
    assert 28 <= run.measured.seconds <= 30
    assert run.overrun == 0
    assert run.predicted.seconds == 30
    chosen = settings_of("a")
    assert chosen["run"]["minutes"] == 0.5
    assert chosen["run"]["steps"] is None
    assert chosen["optim"]["schedule"] == "linear"
    assert chosen["plan"][-1][1] == run.measured.steps == run.history[-1].step
    assert [list(map(list, plan.entries)) for plan in seen.plans] == seen.recorded, "recorded before it acts"
    for name in ("plan", "report"):
        assert json.loads(Path(f"a/{name}.json").read_text())["plan"] == chosen["plan"]
    assert len(seen.evaluated_at) == 2, "one on the way in half a minute, one at the end"
    assert abs(seen.evaluated_at[0] / run.measured.steps - 0.5) < 0.05
    lines = [line for line in run.history if line.val_bpb is not None]
    assert [line.step for line in lines] == seen.evaluated_at


def test_a_machine_that_slows_down_gets_fewer_steps_and_one_that_stops_says_so(
    story_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slower = use(Clock(0.5, later=(15, 1.0)), monkeypatch)
    run = glassgpt.train(story_file, minutes=0.5, out="slower", clock=slower, **TINY)
    assert 28 <= run.measured.seconds <= 32
    assert run.history[-1].lr < 1e-3, "the rate has decayed all the same"
    stops = use(Clock(0.5, later=(25, 90.0)), monkeypatch)
    with pytest.warns(UserWarning, match="more than it was given"):
        run = glassgpt.train(story_file, minutes=0.5, out="stops", clock=stops, **TINY)
    assert run.overrun > 60
    assert run.to_dict()["overrun"] == run.overrun


def test_the_settings_of_a_run_of_minutes_repeat_its_numbers_without_a_clock(
    story_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = use(Clock(0.5, later=(15, 1.0)), monkeypatch)
    first = glassgpt.train(story_file, minutes=0.5, out="a", clock=clock, **TINY)
    assert len(settings_of("a")["plan"]) > 3
    again = glassgpt.train(config="a/config.yaml", out="b", clock=use(Clock(7.0), monkeypatch))
    assert weights(Path("a")) == weights(Path("b"))
    assert again.bits_per_byte == first.bits_per_byte
    numbers = [[(line.step, line.loss, line.val_bpb, line.lr) for line in run.history] for run in (first, again)]
    assert numbers[0] == numbers[1]
    other = glassgpt.train(config="a/config.yaml", minutes=0.25, out="c", clock=use(Clock(0.5), monkeypatch))
    assert other.measured.steps < first.measured.steps, "another length is planned anew"


@pytest.mark.parametrize("stops_at", [10, 55])
def test_a_killed_run_of_minutes_resumes_bit_for_bit(
    story_file: Path, monkeypatch: pytest.MonkeyPatch, stops_at: int
) -> None:
    """Stopped where entries of the plan are still to come, and after the last."""
    clock = use(Clock(0.5), monkeypatch)
    whole = glassgpt.train(story_file, minutes=0.5, out="whole", clock=clock, **TINY)
    clock = use(Clock(0.5), monkeypatch)
    with pytest.raises(Interrupted):
        glassgpt.train(story_file, minutes=0.5, out="parts", clock=clock, listener=StopAt(stops_at), **TINY)
    parts = glassgpt.train(resume="parts", clock=use(Clock(0.5), monkeypatch))
    assert settings_of("parts")["plan"] == settings_of("whole")["plan"]
    assert weights(Path("parts")) == weights(Path("whole"))
    assert parts.bits_per_byte == whole.bits_per_byte
    assert parts.measured.seconds == pytest.approx(whole.measured.seconds), "counted over both processes"


def test_resuming_follows_the_recorded_plan_though_the_machine_has_become_slower(
    story_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = glassgpt.train(story_file, minutes=0.5, out="whole", clock=use(Clock(0.5), monkeypatch), **TINY)
    plan = settings_of("whole")["plan"]
    clock = use(Clock(0.5), monkeypatch)
    with pytest.raises(Interrupted):
        glassgpt.train(story_file, minutes=0.5, out="parts", clock=clock, listener=StopAt(15), **TINY)
    change_settings(Path("parts"), plan=plan)  # as if it had been killed later, after an earlier checkpoint
    parts = glassgpt.train(resume="parts", clock=use(Clock(0.6), monkeypatch))
    replayed = {line.step: (line.loss, line.lr) for line in parts.history}
    planned = [line for line in whole.history if line.step <= plan[-1][0]]
    assert planned[-1].step > 40
    assert [replayed[line.step] for line in planned] == [(line.loss, line.lr) for line in planned]


def test_a_run_that_ends_before_it_has_anything_leaves_no_directory(
    story_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any) -> None:
        assert Path("a").is_dir()
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["glassgpt.api.train"], "look_ahead", interrupted)
    with pytest.raises(KeyboardInterrupt):
        glassgpt.train(story_file, minutes=0.5, out="a", clock=use(Clock(0.5), monkeypatch), **TINY)
    assert not Path("a").exists()


def test_more_minutes_go_on_with_a_run_that_has_ended(story_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = glassgpt.train(story_file, minutes=0.25, out="a", clock=use(Clock(0.5), monkeypatch), **TINY)
    with pytest.raises(InputError, match="give more with --minutes"):
        glassgpt.train(resume="a", clock=use(Clock(0.5), monkeypatch))
    longer = glassgpt.train(resume="a", minutes=0.5, clock=use(Clock(0.5), monkeypatch))
    assert 28 <= longer.measured.seconds <= 30, "the budget is that of the whole run"
    assert longer.measured.steps > 1.5 * first.measured.steps
    assert settings_of("a")["run"]["minutes"] == 0.5
    by_steps = longer.measured.steps + 3
    assert glassgpt.train(resume="a", steps=by_steps).measured.steps == by_steps


def test_a_run_of_minutes_that_was_killed_before_its_report_is_finished(
    story_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = glassgpt.train(story_file, minutes=0.25, out="a", clock=use(Clock(0.5), monkeypatch), **TINY)
    Path("a/report.json").unlink()
    again = glassgpt.train(resume="a", clock=use(Clock(0.5), monkeypatch))
    assert again.measured.steps == first.measured.steps
    assert again.bits_per_byte == first.bits_per_byte
    assert [(line.step, line.val_bpb) for line in again.history] == [(li.step, li.val_bpb) for li in first.history]


def test_everything_is_chosen_where_nothing_is_given_and_written_down(
    story_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = choice.machine_speed
    clock = use(Clock(1.0), monkeypatch)
    monkeypatch.setattr("glassgpt.api.choice.machine_speed", measured)
    run = glassgpt.train(story_file, minutes=0.2, out="a", clock=clock)
    chosen = settings_of("a")
    assert chosen["model"]["architecture"] == "modern"
    assert chosen["model"]["embedding_dim"] % 64 == 0
    assert chosen["data"]["tokenizer"] == "bpe:512"
    assert run.predicted.bits_per_byte is None, "the law knows no text as short"
    assert run.measured.bits_per_byte == run.bits_per_byte


@pytest.mark.thorough
@pytest.mark.parametrize("text", ["All work and no play.\n" * 6000, "a" * 100_000, "To be, or not.\n"])
def test_a_text_of_one_line_trains_sensibly(own_folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (own_folder / "line.txt").write_text(text)
    run = glassgpt.train("line.txt", minutes=0.3, clock=use(Clock(1.0), monkeypatch))
    assert run.measured.steps >= 3
    if len(text) > 1000:
        assert run.bits_per_byte < 8


def test_of_a_large_text_only_what_can_be_read_in_time_is_read_and_it_is_said(
    story_file: Path, own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A text that is large for its minutes, the same as 10 GB for one."""
    monkeypatch.setattr(minutes_of, "READING_SHARE", 1e-4)
    text = story_file.read_text()
    (own_folder / "large.txt").write_text(text * 20)

    class Header(Silent):
        notes: tuple[str, ...] = ()

        def planned(self, start: Any, costs: Any, validated_tokens: int, elapsed: float) -> None:
            self.notes = start.notes

    header = Header()
    glassgpt.train("large.txt", minutes=0.5, out="a", clock=use(Clock(2.0), monkeypatch), listener=header, **TINY)
    limit = settings_of("a")["data"]["max_bytes"]
    assert limit < 20 * len(text) / 2
    assert header.notes[0].startswith("read the first ")
    prepared = json.loads(next((own_folder / "cache").glob("*/prepared.json")).read_text())
    assert prepared["bytes"] <= limit
    clock = use(Clock(2.0), monkeypatch)
    with pytest.raises(Interrupted):
        glassgpt.train("large.txt", minutes=0.5, out="b", clock=clock, listener=StopAt(3), **TINY)
    import shutil

    shutil.rmtree(own_folder / "cache")
    assert glassgpt.train(resume="b", clock=use(Clock(2.0), monkeypatch)).measured.steps > 3, "the same share again"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"minutes": 0.02}, r"run.minutes is 0.02, but starting and ending takes .* give at least --minutes 0\.0\d"),
        ({"minutes": 0.05, "model": {"n_layers": 24, "embedding_dim": 1024, "n_heads": 16}}, r"10 steps of this model"),
        ({"minutes": 0}, "must be above 0"),
        ({"minutes": -3}, "must be above 0"),
        ({"minutes": float("nan")}, "must be a number"),
        ({"minutes": float("inf")}, "must be a number"),
        ({"minutes": 1, "steps": 5}, "give one of the two"),
        ({"minutes": 1, "steps": 5, "tokens": 9}, "give one of them"),
    ],
)
def test_minutes_that_cannot_be_are_refused_in_one_line(story_file: Path, given: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says) as refusal:
        glassgpt.train(story_file, clock=Clock(0.1), **given)
    assert "\n" not in str(refusal.value)
    assert not Path("runs").exists(), "nothing was made for a run that cannot begin"


@pytest.mark.parametrize("plan", ["[[1, 5]]", "[[0, 5], [7, 6]]", "5", "[[0, 5, 6]]", "[[0, 0]]", "[[0, true]]"])
def test_a_recorded_plan_that_was_altered_is_refused(plan: str, story_file: Path, own_folder: Path) -> None:
    (own_folder / "x.yaml").write_text(f"text: {story_file}\nplan: {plan}\n")
    with pytest.raises(InputError, match=r"must be pairs \[from_step, total_steps\]"):
        glassgpt.train(config="x.yaml")
