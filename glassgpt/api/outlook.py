"""Before the first step: how many steps a run will have, what it will take, and what comes after the last step."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from glassgpt.api.record import SAMPLE_TOKENS, Recorder
from glassgpt.api.start import Start
from glassgpt.evaluation.bits_per_byte import evaluate
from glassgpt.files.reading import read_json
from glassgpt.optim.schedule import StepPlan
from glassgpt.planning.memory import checkpoint_bytes, training_memory
from glassgpt.training import budget
from glassgpt.training.budget import Budget
from glassgpt.training.metrics import peak_bytes

PLAN_FILE = "plan.json"
SAVED_BYTES_PER_S = 2e8
"""At which a checkpoint is expected to be written, until one was."""

REPORT_SHARE, MOST_OF_REPORT = 0.02, 5.0
"""Of a run's time that goes into its report, and seconds at most."""


@dataclass(frozen=True)
class Costs:
    """What a run takes: predicted in plan.json, measured in report.json."""

    parameters: int
    steps: int
    tokens: int
    seconds: float
    """Of everything, from the start of the process (or of train()) to its end."""
    tokens_per_s: float
    """While it trains, without evaluations and saves."""
    bits_per_byte: float | None
    """On all of the validation text; None where it is not foreseen."""
    memory_bytes: int
    """Peak of the process while it trains."""
    checkpoint_bytes: int
    """Disk space of one checkpoint; of how many a run keeps see `checkpoint.run.KEPT`."""


@dataclass(frozen=True)
class Outlook:
    """What lies ahead of a run."""

    start: Start
    """With the settings that follow from measured speed."""
    plan: StepPlan
    budget: Budget | None
    """Of a run that ends by the clock."""
    costs: budget.Costs
    """Of single things, in seconds."""
    validated_tokens: int
    """Of the validation text, in evaluations on the way."""

    def predict(self, elapsed: float, interpreter_bytes: int, parameters: int) -> Costs:
        """What the run will take in all, of a model with so many `parameters`.

        `interpreter_bytes` is what the process held before the model.
        """
        chosen, start, plan, costs = self.start.settings, self.start, self.plan, self.costs
        every, optim = chosen.run.eval_every, chosen.optim
        evaluations = (plan.total_steps - 1) // every - start.step // every if every else chosen.run.evaluations or 0
        on_the_way = evaluations * (costs.save + costs.evaluation + costs.sample)
        seconds = elapsed + (plan.total_steps - start.step) * costs.step + on_the_way + costs.closing
        memory = training_memory(chosen.model, optim, chosen.run, interpreter_bytes)
        tokens = plan.total_steps * start.batches.tokens_per_step
        forecast, facts = start.choice.forecast if start.choice else None, start.prepared.facts
        if forecast:  # of the tokenizer as it came out
            per_token = facts.bytes / (facts.train_tokens + facts.val_tokens)
            forecast = dataclasses.replace(forecast, bytes_per_token=per_token)
        score = forecast.bits_per_byte(tokens) if forecast else _foreseen(start.directory.path / PLAN_FILE)
        return Costs(
            parameters=parameters,
            steps=plan.total_steps,
            tokens=tokens,
            seconds=self.budget.seconds if self.budget else seconds,
            tokens_per_s=start.batches.tokens_per_step / max(costs.step, 1e-9),
            bits_per_byte=score,
            memory_bytes=max(memory["total"], peak_bytes()),  # the probe has been there already
            checkpoint_bytes=checkpoint_bytes(chosen.model, optim=optim, tokenizer=_tokenizer_bytes(start)),
        )


def report_seconds(seconds: float) -> float:
    """What report.html may take of a run of so many seconds."""
    return min(MOST_OF_REPORT, max(0.1, REPORT_SHARE * seconds))


def look_ahead(
    start: Start,
    recorder: Recorder,
    step_seconds: float,
    nats_of: Callable[[Tensor, Tensor], float] | None,
    clock: Callable[[], float],
    began: float,
) -> Outlook:
    """Measure a short evaluation (with `nats_of`), a short sample and a look at activations, and plan.

    `began` is when the run started by `clock`.
    """
    chosen, validation = start.settings, start.prepared.val
    run, window = chosen.run, chosen.model.context_length
    tried = validation[: min(4096, start.batches.tokens_per_step) + 1]
    token_bytes = start.prepared.tokenizer.token_bytes()
    recorder.sample(1)  # the first of anything takes several times as long, and only once
    for _ in range(2):
        before = clock()
        evaluate(recorder.model, tried, token_bytes, device=run.device, nats_of=nats_of)
    evaluated = clock()
    recorder.sample(8)
    sampled = clock()
    recorder.activations()
    looked = clock()
    per_token, sample = (evaluated - before) / len(tried), (sampled - evaluated) * SAMPLE_TOKENS / 8 + looked - sampled
    save = checkpoint_bytes(chosen.model, optim=chosen.optim) / SAVED_BYTES_PER_S

    n_validated = run.eval_tokens
    if not n_validated and start.plan:
        n_validated = _validated_tokens(start, start.plan)
    elif not n_validated and run.minutes:
        seconds, wanted = 60 * run.minutes, run.evaluations
        if run.eval_every:
            wanted = max(1, int(seconds / max(step_seconds, 1e-6) / run.eval_every))
        number, n_validated = budget.on_the_way(seconds, save + sample, per_token, window, len(validation), wanted)
        run = dataclasses.replace(run, evaluations=0 if run.eval_every else number, eval_tokens=n_validated)
    n_validated = min(n_validated, len(validation))
    rest = len(validation) / n_validated - 1
    expected = 60 * run.minutes if run.minutes else start.plan.total_steps * step_seconds if start.plan else 0.0
    evaluation, reporting = per_token * n_validated, report_seconds(expected)
    costs = budget.Costs(step_seconds, save, evaluation, sample, rest=rest, report=reporting)
    start = dataclasses.replace(start, settings=dataclasses.replace(chosen, run=run))
    keeper = None
    if start.by_the_clock and run.minutes:
        keeper = Budget(60 * run.minutes, costs, run.evaluations or 0, run.eval_every, run.save_every)
        plan = start.plan or keeper.first_plan(start.step, clock() - began)
        start = dataclasses.replace(start, plan=plan)
    assert start.plan is not None  # only a run of minutes waits for the clock
    return Outlook(start, start.plan, keeper, costs, n_validated)


def _tokenizer_bytes(start: Start) -> int:
    """Of its files, which every checkpoint has."""
    return sum(len(content) for content in start.prepared.tokenizer.files().values())


def _foreseen(plan_file: Path) -> float | None:
    """The score that a resumed run predicted when it began; None where there is none."""
    try:
        foreseen = read_json(plan_file).get("bits_per_byte")
    except (OSError, ValueError, AttributeError):
        return None
    return foreseen if isinstance(foreseen, float) else None


def _validated_tokens(start: Start, plan: StepPlan) -> int:
    """How many tokens the evaluations on the way use. To evaluate a token costs a third of training on it."""
    evaluations = -(-plan.total_steps // (start.settings.run.eval_every or plan.total_steps))
    affordable = int(budget.EVALUATION_SHARE * 3 * plan.total_steps * start.batches.tokens_per_step / evaluations)
    length = start.settings.model.context_length
    return min(len(start.prepared.val), max(affordable // length, 16) * length + 1)
