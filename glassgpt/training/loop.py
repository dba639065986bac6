"""The loop: step, log, and every so often save, evaluate and write a sample.

A checkpoint is saved before its evaluation, so an evaluation that goes wrong costs nothing. What a step computes
depends on (settings, plan, step) alone: batches and learning rate are arithmetic and dropout is reseeded every step,
so a resumed run repeats the interrupted one bit for bit. In a run of minutes the clock only adds entries to the plan,
and each is recorded before it acts.

A step whose update would spoil the model (a NaN, a loss far above what is usual) is skipped: its number goes on,
nothing else changes. After MOST_SKIPPED in a row training stops.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from glassgpt.config import OptimConfig, RunConfig
from glassgpt.data.batches import Batches
from glassgpt.evaluation.bits_per_byte import Evaluation, Stopped
from glassgpt.optim.optimizer import Optimizer
from glassgpt.optim.schedule import StepPlan, learning_rate
from glassgpt.training.budget import Budget
from glassgpt.training.health import StepHealth, StepWatch
from glassgpt.training.interruption import Interrupted, StopRequest
from glassgpt.training.metrics import Metrics, resident_bytes
from glassgpt.training.native_loss import NativeLoss
from glassgpt.training.step import NextTokenLoss, Refused, training_step

MOST_SKIPPED = 3
"""Steps in a row."""
USUAL_DECAY = 0.99
"""By how much what the loss was counts less with every step taken since."""
NAMED_WINDOWS = 3
"""Of a batch, in a message; skipped.jsonl has all."""


class TrainingFailed(RuntimeError):
    """Training cannot go on. The message says at which step, why, and what to try."""


@dataclass(frozen=True)
class Progress:
    """How far a run is: all that a checkpoint has to remember besides weights and optimiser."""

    step: int = 0
    seconds: float = 0.0
    last: Metrics | None = None
    """What the last step measured that was taken."""
    health: StepHealth | None = None
    """How the parts of the model fared in the last step that was watched: each that an evaluation follows."""
    usual_loss: float = math.inf
    """The highest loss of the steps taken, each counted the less the longer ago it was; infinite before the first."""
    skipped: int = 0
    """Steps in a row, up to this one."""

    def counters(self) -> dict[str, Any]:
        """As a checkpoint holds it, in what JSON can hold."""
        last, usual = self.last and asdict(self.last), self.usual_loss if math.isfinite(self.usual_loss) else None
        return asdict(self) | {"last": last, "usual_loss": usual}

    @classmethod
    def of(cls, counters: Mapping[str, Any]) -> "Progress":
        """What `counters` gave; an older version's lack the last two."""
        last, usual = counters["last"], counters.get("usual_loss")
        return cls(
            step=counters["step"],
            seconds=counters["seconds"],
            last=Metrics(**last) if last else None,
            health=counters.get("health"),
            usual_loss=math.inf if usual is None else usual,
            skipped=counters.get("skipped", 0),
        )


@dataclass(frozen=True)
class Skipped:
    """A step that was not taken: a line of skipped.jsonl."""

    step: int
    why: str
    tensor: str | None
    """Which is not finite, if one is named."""
    tokens: list[tuple[int, int]]
    """The first and the last position of each window of its batch, in the training text's shard."""

    def __str__(self) -> str:
        return f"step {self.step:,} is skipped: {self.why} (windows at tokens {self.where})"

    @property
    def where(self) -> str:
        """The windows, the first few of many."""
        named = [f"{first}-{last}" for first, last in self.tokens[:NAMED_WINDOWS]]
        more = len(self.tokens) - len(named)
        return ", ".join(named) + (f" and {more} more" if more else "")


@dataclass(frozen=True)
class Job:
    """Everything a run trains with. The callables are wired by `glassgpt.api`."""

    loss_of: NextTokenLoss | NativeLoss
    """Of the model that is trained."""
    optimizer: Optimizer
    batches: Batches
    optim: OptimConfig
    run: RunConfig
    plan: StepPlan
    save: Callable[[Progress], None]
    evaluate: Callable[[Callable[[], bool]], Evaluation]
    """Given a function that says whether to stop."""
    on_step: Callable[[Metrics], None]
    """After every step, for a live view."""
    on_log: Callable[[Metrics], None]
    """Every log_every steps and at each evaluation: a line of metrics.jsonl."""
    on_evaluation: Callable[[Progress, Evaluation], None]
    on_plan: Callable[[StepPlan], None] = lambda plan: None
    """Given a longer plan, to record before it acts."""
    on_skip: Callable[[Skipped], None] = lambda skipped: None
    """After every step that was not taken."""
    watch: StepWatch | None = None
    """Looks at the steps that an evaluation follows."""
    budget: Budget | None = None
    """Of a run that ends by the clock; without, the plan is followed as it is."""
    clock: Callable[[], float] = time.perf_counter
    began: float | None = None
    """When the first second of the run began by this clock, had it run in one piece. None: now."""


def train(job: Job, progress: Progress, stop: StopRequest) -> Progress:
    """Train from `progress` to the end.

    Raises Interrupted when `stop` was set, with everything saved, and TrainingFailed where steps cannot be taken.
    """
    loss_of, model = job.loss_of, job.loss_of.model
    device = next(model.parameters()).device
    plan, budget, clock = job.plan, job.budget, job.clock
    began = clock() - progress.seconds if job.began is None else job.began
    saved_at, saved_seconds = (progress.step if progress.step else -1), progress.seconds
    since, at_work = progress.step, 0.0  # steps and seconds of work since the last line
    model.train()

    while True:
        step, last = progress.step, progress.last
        progress = replace(progress, seconds=clock() - began)
        if budget and (longer := budget.review(plan, step, progress.seconds)):
            job.on_plan(longer)
            plan = longer
        evaluate = _evaluation_is_due(step, plan, job.run)
        save = evaluate or _due(step, job.run.save_every, plan.total_steps)
        save = save or (budget is not None and budget.save_is_due(progress.seconds - saved_seconds, progress.seconds))
        if saved_at != step and (stop() or save):
            before = clock()
            with job.optimizer.averaged():
                job.save(progress)
            saved_at, saved_seconds = step, progress.seconds
            if budget:
                budget.costs.save = clock() - before
        if evaluate and step and not stop():
            before = clock()
            try:
                with job.optimizer.averaged():
                    evaluation = job.evaluate(stop)
                    evaluated = clock()
                    if not math.isfinite(evaluation.bits_per_byte):
                        raise TrainingFailed(f"stopped after step {step}: the validation text's loss is not finite")
                    job.on_evaluation(progress, evaluation)
            except Stopped:
                continue  # the checkpoint is saved: the next turn leaves
            if last is not None and last.step < step:  # the last one was skipped: its score, and the loss before it
                tokens, seconds = step * job.batches.tokens_per_step, progress.seconds
                last = replace(last, step=step, tokens=tokens, seconds=seconds)
            last = last and replace(last, val_bpb=evaluation.bits_per_byte)
            if budget:
                budget.costs.evaluation, budget.costs.sample = evaluated - before, clock() - evaluated
        logged = evaluate or step % job.run.log_every == 0 or step == 1
        if logged and last is not None and last.step == step and not stop():
            job.on_log(last)
            since, at_work = step, 0.0
        if stop.signal_number is not None:
            if saved_at != step:
                continue  # it came since a save was thought of
            raise Interrupted(step, stop.signal_number)
        if step >= plan.total_steps:
            return progress

        before = clock()
        rate = learning_rate(step, plan, job.optim)
        torch.manual_seed(job.run.seed * 1_000_003 + step)  # dropout of this step
        ids, targets = (tensor.to(device, non_blocking=True) for tensor in job.batches.batch(step))
        may_be_last = _evaluation_is_due(step + 1, plan, job.run) or (budget is not None and budget.in_tail)
        try:
            result = training_step(
                loss_of, job.optimizer, ids, targets,
                learning_rate=rate, grad_clip=job.optim.grad_clip, accumulation=job.optim.accumulation,
                watch=job.watch if may_be_last else None, usual_loss=progress.usual_loss,
            )  # fmt: skip
        except Refused as refused:
            at_work += clock() - before
            progress = _skip(job, replace(progress, seconds=clock() - began), plan, refused)
        else:
            after = clock()
            at_work += after - before
            metrics = Metrics(
                step=step + 1,
                tokens=(step + 1) * job.batches.tokens_per_step,
                seconds=after - began,
                loss=result.loss,
                val_bpb=None,
                lr=rate,
                grad_norm=result.grad_norm,
                tokens_per_s=(step + 1 - since) * job.batches.tokens_per_step / max(at_work, 1e-9),
                memory_bytes=resident_bytes(),
            )
            usual = progress.usual_loss if math.isfinite(progress.usual_loss) else 0.0
            usual = max(result.loss, USUAL_DECAY * usual)
            progress = Progress(step + 1, metrics.seconds, metrics, result.health or progress.health, usual)
            job.on_step(metrics)
        if budget:
            budget.stepped(clock() - before)


def _skip(job: Job, progress: Progress, plan: StepPlan, refused: Refused) -> Progress:
    """Go past a step that is not taken. Raises TrainingFailed where that would lead nowhere."""
    step, in_a_row = progress.step + 1, progress.skipped + 1
    skipped = Skipped(step, str(refused), refused.tensor, job.batches.spans(progress.step))
    stopped = f"stopped at step {step} before its update: {refused}"
    if refused.is_weight:
        raise TrainingFailed(f"{stopped}, and no other batch would mend it")
    job.on_skip(skipped)
    if in_a_row >= MOST_SKIPPED or (progress.last is None and step >= plan.total_steps):
        why = f"the last {in_a_row} steps could not be taken" if in_a_row > 1 else "no step could be taken"
        rates = f"--optim.learning-rate {job.optim.learning_rate:g}"
        rates += f" and --optim.muon-learning-rate {job.optim.muon_learning_rate:g}" if job.optim.name == "muon" else ""
        tried = f"try lower learning rates than {rates}, or look at the text there"
        raise TrainingFailed(f"{stopped} (windows at tokens {skipped.where}); {why}: {tried}")
    return replace(progress, step=step, skipped=in_a_row)


def _evaluation_is_due(step: int, plan: StepPlan, run: RunConfig) -> bool:
    """Every eval_every steps; or, where that is 0, after equal shares of the run; and at the end."""
    if run.eval_every or not step:
        return _due(step, run.eval_every, plan.total_steps)
    parts = (run.evaluations or 0) + 1
    return step >= plan.total_steps or int(parts * plan.progress(step)) > int(parts * plan.progress(step - 1))


def _due(step: int, every: int, total_steps: int) -> bool:
    return step >= total_steps or (step > 0 and every > 0 and step % every == 0)
