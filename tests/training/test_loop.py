"""The loop by itself: which steps are skipped, what they leave, and where training ends."""

import math
import signal
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from glassgpt.config import GPTConfig, OptimConfig, RunConfig
from glassgpt.data.batches import Batches
from glassgpt.evaluation.bits_per_byte import Evaluation
from glassgpt.model import GPTModel
from glassgpt.optim.groups import make_optimizer
from glassgpt.optim.schedule import StepPlan, learning_rate
from glassgpt.training.interruption import Interrupted, StopRequest
from glassgpt.training.loop import Job, Progress, Skipped, TrainingFailed, train
from glassgpt.training.metrics import Metrics
from glassgpt.training.step import NextTokenLoss

PLAN = StepPlan.of(12)


class Unlucky(NextTokenLoss):
    """A loss that is multiplied at some steps."""

    def __init__(self, factors: dict[int, float]) -> None:
        super().__init__(GPTModel(GPTConfig(vocab_size=16, context_length=8, embedding_dim=8, n_heads=2, n_layers=1)))
        self.factors, self.step = factors, 0

    def forward(self, ids: Any, targets: Any) -> Any:
        self.step += 1
        return super().forward(ids, targets) * self.factors.get(self.step, 1.0)


class Done:
    """A run of PLAN with these factors, and what it told."""

    def __init__(self, factors: dict[int, float], **run: Any) -> None:
        self.steps: list[Metrics] = []
        self.lines: list[Metrics] = []
        self.skipped: list[Skipped] = []
        self.saves: list[Progress] = []
        self.optim = OptimConfig(batch_size=2)
        loss_of = Unlucky(factors)
        ids = np.random.default_rng(1).integers(16, size=300).astype(np.uint16)
        self.batches = Batches(ids, 8, batch_size=2, seed=1)
        self.clock = 0.0
        self.job = Job(
            loss_of=loss_of, optimizer=make_optimizer(loss_of.model, self.optim), batches=self.batches,
            optim=self.optim, run=RunConfig(log_every=1, eval_every=6, save_every=3, **run), plan=PLAN,
            save=self.saves.append, evaluate=lambda stop: Evaluation(100.0, 50, 200), on_step=self.steps.append,
            on_log=self.lines.append, on_evaluation=lambda progress, evaluation: None, on_skip=self.skipped.append,
            clock=self.tick,
        )  # fmt: skip

    def tick(self) -> float:
        self.clock += 1.0
        return self.clock

    def train(self, progress: Progress = Progress()) -> Progress:  # noqa: B008 (frozen)
        return train(self.job, progress, StopRequest())


def test_a_skipped_step_has_its_number_and_its_time_and_no_line() -> None:
    done = Done({4: math.nan, 6: 100.0})
    end = done.train()
    assert (end.step, end.skipped) == (12, 0)
    assert [skipped.step for skipped in done.skipped] == [4, 6]
    assert [skipped.tokens for skipped in done.skipped] == [done.batches.spans(3), done.batches.spans(5)]
    assert [line.step for line in done.lines] == [1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12]
    assert [line.step for line in done.steps] == [1, 2, 3, 5, 7, 8, 9, 10, 11, 12]
    assert all(line.lr == learning_rate(line.step - 1, PLAN, done.optim) for line in done.steps)
    evaluated = next(line for line in done.lines if line.step == 6)  # it was skipped: its score, the loss of step 5
    assert (evaluated.val_bpb, evaluated.loss, evaluated.tokens) == (
        Evaluation(100.0, 50, 200).bits_per_byte, done.steps[3].loss, 6 * 16,
    )  # fmt: skip
    seconds = [line.seconds for line in done.lines]
    assert seconds == sorted(seconds)
    assert seconds[3] - seconds[2] > seconds[2] - seconds[1], "the time of a skipped step is counted"


def test_three_in_a_row_end_training_and_name_where() -> None:
    done = Done({4: math.inf, 5: 100.0, 6: math.nan})
    first, last = done.batches.spans(5)[0]
    says = rf"stopped at step 6 before its update: the loss is nan \(windows at tokens {first}-{last}, .*last 3 steps"
    with pytest.raises(TrainingFailed, match=says):
        done.train()
    assert [skipped.step for skipped in done.skipped] == [4, 5, 6]
    assert [progress.step for progress in done.saves] == [3]


def test_two_and_two_are_no_four() -> None:
    assert Done({3: math.nan, 4: math.nan, 6: math.nan, 7: math.nan}).train().step == 12


def test_a_run_of_which_no_step_can_be_taken_fails() -> None:
    done = Done({1: math.nan, 2: math.nan})
    done.job = replace(done.job, plan=StepPlan.of(2))
    with pytest.raises(TrainingFailed, match=r"step 2 .*the last 2 steps could not be taken"):
        done.train()


def test_a_stop_that_comes_after_a_save_was_thought_of_is_saved_as_well() -> None:
    done, stop = Done({}), StopRequest()

    def stopping(line: Metrics) -> None:
        if line.step == 4:
            stop.signal_number = signal.SIGTERM

    done.job = replace(done.job, on_log=stopping)
    with pytest.raises(Interrupted, match="stopped by SIGTERM after step 4"):
        train(done.job, Progress(), stop)
    assert [progress.step for progress in done.saves] == [3, 4]


def test_an_evaluation_that_is_not_finite_ends_training() -> None:
    done = Done({})
    done.job = replace(done.job, evaluate=lambda stop: Evaluation(math.nan, 50, 200))
    with pytest.raises(TrainingFailed, match="stopped after step 6"):
        done.train()
    assert max(line.step for line in done.lines) == 5


def test_what_decides_about_skipping_is_in_the_counters() -> None:
    progress = Progress(5, 3.5, Metrics(4, 64, 3.0, 2.0, None, 1e-3, 1.0, 5e3, 10**8), {"layers": []}, 2.5, 1)
    assert Progress.of(progress.counters()) == progress
    assert Progress.of(Progress().counters()) == Progress()
    older = {name: value for name, value in progress.counters().items() if name not in ("usual_loss", "skipped")}
    assert Progress.of(older).usual_loss == math.inf
    done = Done({2: 100.0})  # goes on from a checkpoint of an older version: the first step tells what is usual
    done.train(replace(Progress.of(older), step=0))
    assert [skipped.step for skipped in done.skipped] == [2]


def test_windows_that_are_easy_make_no_spikes_of_the_others() -> None:
    done = Done({2: 0.03, 3: 0.03, 4: 0.03, 5: 0.03, 8: 0.03, 10: 100.0})  # as of a text that repeats itself in places
    assert done.train().step == 12
    assert [skipped.step for skipped in done.skipped] == [10]
    assert min(line.loss for line in done.steps) < 0.1 < 2 < max(line.loss for line in done.steps)
