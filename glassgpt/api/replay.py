"""The last interval of a run computed once more, from the checkpoint before it, and compared bit for bit.

It shows that this run can be gone on with exactly: its checkpoints hold all that later steps depend on, and this
machine computes the same as when they were written. It is training itself that runs, in memory; the run's directory is
only read.
"""

import contextlib
import dataclasses
import itertools
import shlex
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from glassgpt.api.machine import computes_with
from glassgpt.api.start import replayed_start
from glassgpt.api.train import learner
from glassgpt.checkpoint.empty import is_builtin
from glassgpt.checkpoint.huggingface import weights_to_huggingface
from glassgpt.checkpoint.run import RunDirectory
from glassgpt.checkpoint.run_settings import read_settings
from glassgpt.checkpoint.soundness import COUNTERS, STATE, refuse_unsound
from glassgpt.checkpoint.stored import WEIGHTS
from glassgpt.checkpoint.tensors import TensorFile
from glassgpt.config import RunConfig
from glassgpt.files.reading import read_json
from glassgpt.settings import InputError, without_advice
from glassgpt.training.interruption import Interrupted, StopRequest
from glassgpt.training.loop import Job, Progress, Skipped, train
from glassgpt.training.metrics import Metrics, read_metrics

COMPARED = ("loss", "grad_norm", "lr")
"""Of each line of metrics.jsonl."""


@dataclass(frozen=True)
class Replay:
    """What came of it."""

    first: int
    """The step that it began after."""
    last: int
    """The last step that was computed."""
    n_lines: int
    """Of metrics.jsonl that were compared."""
    weights_at: int | None
    """The step whose weights and optimiser were compared; None where none were saved in the interval."""
    differs_at: int | None = None
    """The first step that differs."""
    difference: str | None = None
    """What differs there."""
    elsewhere: str | None = None
    """Why equal bits could not be expected: it was computed with another PyTorch or on another machine."""
    only_the_log: bool = False
    """A logged line differs, but not the weights after it: it was the line that changed."""
    passed_over: tuple[str, ...] = ()
    """Checkpoints that are not sound, a line each."""

    @property
    def identical(self) -> bool:
        return self.differs_at is None


def replay(
    run: RunDirectory, *, trust_code: bool = False, doing: Callable[[str], None] = lambda what: None
) -> Replay:
    """Compute the last interval of a run once more, and what was logged after it.

    That is from its newest checkpoint but one to the newest, with the threads that the run had; from its first step,
    where it kept one alone. Raises InputError where nothing can be computed again.
    """
    chosen = read_settings(run.path)
    (*before, newest), passed_over = _sound(run, chosen.run_id, doing)
    counters = read_json(newest / COUNTERS)
    lines = {line.step: line for line in read_metrics(run.path / "metrics.jsonl")}
    last = max([*lines, counters["step"]])
    start_at, end_at = (before[0], newest) if before else (newest, None) if last > counters["step"] else (None, newest)
    saved_step = counters["step"] if end_at else None
    chosen = dataclasses.replace(chosen, run=dataclasses.replace(chosen.run, threads=counters["threads"]))
    doing("opening the run")
    start = replayed_start(run, chosen, start_at, trust_code=trust_code)
    assert start.plan is not None  # a run with a checkpoint has one
    last = min(last, start.plan.total_steps)
    torch.set_num_threads(start.settings.run.threads)
    if start.settings.run.deterministic != torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(start.settings.run.deterministic)
    with start.code.blamed():
        found = _Steps(lines, start.step, last, doing)
        loss_of, optimizer = learner(start)
        progress = Progress.of(start.state.counters) if start.state else Progress()
        weights: str | None = None

        def saved(now: Progress) -> None:
            nonlocal progress, weights
            progress = now
            if end_at is not None and now.step == saved_step:
                weights = _other_tensor(end_at, loss_of.model, optimizer.tensors())

        job = Job(
            loss_of=loss_of, optimizer=optimizer, batches=start.batches, optim=start.settings.optim,
            run=_without_stops(start.settings.run), plan=start.plan, save=saved, evaluate=_never,
            on_step=found.stepped, on_skip=found.skipped, on_log=lambda line: None,
            on_evaluation=lambda now, evaluation: None,
        )  # fmt: skip
        for end in sorted({saved_step or last, last}):
            found.train(job, progress, end)
    elsewhere = _elsewhere(counters.get("computed_with"), computes_with(start.settings.run.device))
    result = Replay(start.step, last, found.n_lines, saved_step, elsewhere=elsewhere, passed_over=passed_over)
    if found.differs_at is not None:
        only_the_log = saved_step is not None and weights is None and found.differs_at <= saved_step
        return dataclasses.replace(
            result, differs_at=found.differs_at, difference=found.difference, only_the_log=only_the_log
        )
    if weights is not None:
        return dataclasses.replace(result, differs_at=saved_step, difference=f"{weights} has other bits")
    return result


class _Steps:
    """Follows the steps that are computed again, and compares those that were logged."""

    def __init__(self, lines: Mapping[int, Metrics], first: int, last: int, doing: Callable[[str], None]) -> None:
        self.lines, self.first, self.last, self.doing = lines, first, last, doing
        self.n_lines = 0
        self.differs_at: int | None = None
        self.difference: str | None = None
        self._end, self._stop = last, StopRequest()
        self._began = time.perf_counter()

    def train(self, job: Job, progress: Progress, end: int) -> None:
        """Train on to the end of step `end`."""
        if progress.step >= end:
            return
        self._end, self._stop = end, StopRequest()
        with contextlib.suppress(Interrupted):
            train(job, progress, self._stop)

    def stepped(self, now: Metrics) -> None:
        seconds = (time.perf_counter() - self._began) / (now.step - self.first) * (self.last - now.step)
        self.doing(f"replaying step {now.step:,} of {self.first + 1:,} to {self.last:,}, {seconds:,.0f} s to go")
        if (line := self.lines.get(now.step)) is not None:
            self.n_lines += 1
            other = next((name for name in COMPARED if getattr(line, name) != getattr(now, name)), None)
            if other is not None and self.differs_at is None:
                self.differs_at = now.step
                self.difference = f"{other} {getattr(line, other)!r} was logged, {getattr(now, other)!r} is replayed"
        self._leave_after(now.step)

    def skipped(self, now: Skipped) -> None:
        self._leave_after(now.step)

    def _leave_after(self, step: int) -> None:
        if step == self._end:
            self._stop.signal_number = signal.SIGINT  # the loop saves, which compares, and leaves


def _sound(run: RunDirectory, run_id: str, doing: Callable[[str], None]) -> tuple[list[Path], tuple[str, ...]]:
    """The newest two checkpoints that are sound, the newer last, and why not others. Raises InputError without any."""
    sound: list[Path] = []
    passed_over: list[str] = []
    for checkpoint in reversed(run.checkpoints()):
        doing(f"reading {checkpoint.name}")
        try:
            refuse_unsound(checkpoint, run_id)
        except InputError as damage:
            passed_over.append(without_advice(damage))
            continue
        sound.insert(0, checkpoint)
        if len(sound) == 2:
            break
    if not sound:
        what = f"`glassgpt data verify {shlex.quote(str(run.path))}` says what is left"
        raise InputError(f"{run.path} has no sound checkpoint to replay from: {what}")
    return sound, tuple(passed_over)


def _without_stops(run: RunConfig) -> RunConfig:
    """Nothing saved and nothing evaluated before the end, which changes no bit of a step."""
    return dataclasses.replace(run, eval_every=2**62, save_every=0, log_every=1)


def _other_tensor(checkpoint: Path, model: Any, state: Mapping[str, Tensor]) -> str | None:
    """The first tensor of a checkpoint that has other bits than the same of the model or of the optimiser's state."""
    weights = weights_to_huggingface(model) if is_builtin(model) else model.state_dict()
    stored = (TensorFile(checkpoint / WEIGHTS), TensorFile(checkpoint / STATE))
    pairs = itertools.chain(
        ((name, weights.get(name), there) for name, there in stored[0].items()),
        ((name, state.get(name), there) for name, there in stored[1].items()),
    )
    return next((name for name, ours, there in pairs if ours is None or not _same_bits(ours, there)), None)


def _same_bits(a: Tensor, b: Tensor) -> bool:
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    as_bytes = [tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8) for tensor in (a, b)]
    return torch.equal(*as_bytes)


def _elsewhere(then: str | None, now: str) -> str | None:
    return None if then in (None, now) else f"{then} then, {now} now"


def _never(stop: Callable[[], bool]) -> NoReturn:
    raise AssertionError("nothing is evaluated before the end of a replay")
