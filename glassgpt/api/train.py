"""train(): a text in, a GPT out."""

import contextlib
import dataclasses
import errno
import json
import shlex
import signal
import statistics
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from glassgpt.api.code import GIVEN_IN_PYTHON, Code, ModelMaker, OptimizerMaker
from glassgpt.api.loaded import load
from glassgpt.api.outlook import PLAN_FILE, Costs, look_ahead, report_seconds
from glassgpt.api.record import Recorder
from glassgpt.api.report import write_report
from glassgpt.api.start import Start, new_start, resumed_start
from glassgpt.api.texts import DocumentMaker
from glassgpt.checkpoint.directory import load_model
from glassgpt.checkpoint.own_model import CODE
from glassgpt.checkpoint.run import RunDirectory
from glassgpt.checkpoint.run_settings import read_settings, write_settings
from glassgpt.evaluation.bits_per_byte import Evaluation, evaluate
from glassgpt.evaluation.ngrams import MOST_TRAINED, ngram_bits_per_byte
from glassgpt.files.atomic import SaveError, write_atomically
from glassgpt.files.reading import read_json
from glassgpt.optim.optimizer import Optimizer
from glassgpt.optim.schedule import StepPlan
from glassgpt.training.budget import tolerance
from glassgpt.training.health import StepWatch
from glassgpt.training.heap import keep_freed_memory
from glassgpt.training.interruption import Interrupted, stop_on_signals
from glassgpt.training.loop import Job, Progress, Skipped, TrainingFailed
from glassgpt.training.loop import train as train_loop
from glassgpt.training.metrics import Metrics, peak_bytes, resident_bytes
from glassgpt.training.native_loss import NativeLoss
from glassgpt.training.probe import seconds_per_step
from glassgpt.training.step import NextTokenLoss, training_loss

COUNTED_PER_S = 2_000_000
"""Tokens whose n-grams are counted in a second, on slow machines."""


@dataclass(frozen=True)
class Run:
    """A finished run."""

    directory: Path
    bits_per_byte: float
    """Of the best checkpoint on all of the validation text."""
    history: list[Metrics]
    predicted: Costs
    measured: Costs
    minutes: float | None = None
    """The budget, of a run that ended by the clock."""
    ngrams: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Bits per byte of models that count "1", "2" and "3" tokens of the same text; empty where none was made."""
    report: Path | None = None
    """report.html; None where it could not be written."""

    @property
    def overrun(self) -> float:
        """Seconds over the budget, where they are more than it promises to keep to; else 0."""
        over = self.measured.seconds - 60 * self.minutes if self.minutes else 0.0
        return over if self.minutes and over > tolerance(60 * self.minutes) else 0.0

    def to_dict(self) -> dict[str, Any]:
        """What `glassgpt train --json` prints."""
        return {
            "directory": str(self.directory),
            "steps": self.measured.steps,
            "tokens": self.measured.tokens,
            "seconds": self.measured.seconds,
            "overrun": self.overrun,
            "val_bpb": self.bits_per_byte,
            "ngrams": dict(self.ngrams),
            "parameters": self.measured.parameters,
            "predicted": dataclasses.asdict(self.predicted),
            "measured": dataclasses.asdict(self.measured),
        }


class Listener(Protocol):
    """Who watches a run: the command line's view, or `Silent`."""

    def phase(self, what: str) -> None:
        """Before each thing that takes time and comes before the first step, such as "reading the text"."""

    def planned(self, start: Start, costs: Costs, validated_tokens: int, elapsed: float) -> None:
        """Before the first step, `elapsed` seconds into the run."""

    def replanned(self, plan: StepPlan) -> None:
        """Whenever a run of minutes turns out to have another number of steps."""

    def stepped(self, metrics: Metrics) -> None:
        """After every step."""

    def skipped(self, skipped: Skipped) -> None:
        """Instead, where an update would have spoiled the model, so that none was made."""

    def saved(self, checkpoint: Path) -> None:
        """After every checkpoint."""

    def evaluated(self, progress: Progress, evaluation: Evaluation, sample: str) -> None:
        """After every evaluation."""


class Silent:
    """A listener that shows nothing."""

    def phase(self, what: str) -> None: ...

    def planned(self, start: Start, costs: Costs, validated_tokens: int, elapsed: float) -> None: ...

    def replanned(self, plan: StepPlan) -> None: ...

    def stepped(self, metrics: Metrics) -> None: ...

    def skipped(self, skipped: Skipped) -> None: ...

    def saved(self, checkpoint: Path) -> None: ...

    def evaluated(self, progress: Progress, evaluation: Evaluation, sample: str) -> None: ...


def train(
    text: str | Path | Sequence[str | Path] = (),
    *,
    minutes: float | None = None,
    steps: int | None = None,
    tokens: int | None = None,
    preset: str | None = None,
    tokenizer: str | None = None,
    seed: int | None = None,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    config: str | Path | None = None,
    model: Mapping[str, Any] | ModelMaker | None = None,
    optimizer: OptimizerMaker | None = None,
    documents: DocumentMaker | Iterable[str] | None = None,
    data: Mapping[str, Any] | None = None,
    optim: Mapping[str, Any] | None = None,
    run: Mapping[str, Any] | None = None,
    trust_code: bool = False,
    listener: Listener | None = None,
    clock: Callable[[], float] = time.perf_counter,
    began: float | None = None,
) -> Run:
    """Train a GPT on a text and return the finished run.

    `text` is what `glassgpt train` takes: files, folders, globs, "-" or "pydoc" (the default). What is given by name
    decides over the sections `model`, `data`, `optim` and `run`, these over `preset`, that over the YAML file
    `config`. With `resume`, the run in that directory goes on with its own settings; `trust_code` lets it (or the
    `config` of such a run) run the code that was copied into it. `model` may also be a class or a function of your own,
    which is given the GPTConfig, and `optimizer` a function of (model, OptimConfig): see `glassgpt.api.code`.
    `documents` are texts to train on instead of files, or a function that gives them.

    The run ends after `minutes` (10 where neither they nor `steps` nor `tokens` are given), reading and evaluating
    included. They are counted by `clock`, from `began` on it, by default from now.

    Raises InputError for input that cannot be used, `training.interruption.Interrupted` after Ctrl-C or SIGTERM
    with everything saved, and `training.loop.TrainingFailed` after three steps in a row whose update would have spoiled
    the model (a NaN, a loss far above what was usual); a single one is skipped, and `listener` is told.
    """
    began = clock() if began is None else began
    watcher = listener or Silent()
    gives = documents if documents is None or callable(documents) else lambda: documents
    code = Code(model if callable(model) else None, optimizer, gives)
    sections = _sections(None if callable(model) else model, data, optim, run)
    given = {name: dict(section or {}) for name, section in sections.items()}
    named = {"minutes": minutes, "steps": steps, "tokens": tokens, "seed": seed}
    given["run"] |= {name: value for name, value in named.items() if value is not None}
    if code.is_given:
        given["run"]["code"] = GIVEN_IN_PYTHON
    if tokenizer is not None:
        given["data"]["tokenizer"] = tokenizer
    if resume is not None:
        watcher.phase("opening the run")
        start = resumed_start(str(resume), given, trust_code=trust_code, code=code)
    else:
        sources = [str(source) for source in ([text] if isinstance(text, str | Path) else text)]
        config_file, out_path = (Path(path) if path is not None else None for path in (config, out))
        start = new_start(
            sources, given, preset_name=preset, config_file=config_file, out=out_path,
            elapsed=lambda: clock() - began, code=code, phase=watcher.phase, trust_code=trust_code,
        )  # fmt: skip
    if resume is not None:
        began = clock()  # only the first start of a run counts
    try:
        with start.code.blamed(), _advised(start.directory):
            found = _reported(_train(start, watcher, clock, began), start, clock)
    except KeyboardInterrupt as interrupt:
        latest = start.directory.latest
        if latest is None:
            _remove_empty(start.directory)
            raise
        number = next(iter(interrupt.args), signal.SIGINT)
        raise Interrupted(int(latest.name.removeprefix("step-")), number) from None
    except TrainingFailed as failed:
        raise TrainingFailed(f"{failed}. {_what_is_left(start.directory)}") from None
    except BaseException:
        _remove_empty(start.directory)
        raise
    finally:
        start.directory.release()
    if listener is None and found.overrun:
        over = f"took {found.measured.seconds:.1f} s, {found.overrun:.1f} s more than it was given"
        warnings.warn(f"the run in {found.directory} {over}", stacklevel=2)
    return found


def _train(start: Start, listener: Listener, clock: Callable[[], float], began: float) -> Run:
    keep_freed_memory()
    interpreter_bytes = resident_bytes()  # what is there before the model
    run = start.settings.run
    torch.set_num_threads(run.threads)
    if run.deterministic != torch.are_deterministic_algorithms_enabled():  # to ask costs nothing, to set 1.7 s
        torch.use_deterministic_algorithms(run.deterministic)
    listener.phase("measuring a few steps of the model")
    loss_of, optimizer, progress, step_seconds = _build(start, clock)
    model = loss_of.model
    nats_of = loss_of.nats if isinstance(loss_of, NativeLoss) else None
    began -= progress.seconds  # as if the run had gone in one piece
    recorder = Recorder(start, model, optimizer)
    validation, token_bytes = start.prepared.val, start.prepared.tokenizer.token_bytes()
    ngrams = _ngrams(start)  # before the steps are planned: then their time is known
    outlook = look_ahead(start, recorder, step_seconds, nats_of, clock, began)
    start, plan, n_validated = outlook.start, outlook.plan, outlook.validated_tokens
    on_the_way = validation[:n_validated]
    elapsed = clock() - began
    predicted = outlook.predict(elapsed, interpreter_bytes, sum(p.numel() for p in model.parameters()))
    scores: list[Evaluation] = []
    with stop_on_signals() as stop:  # from the first file of the run on it can be gone on with
        if start.code.source is not None:
            write_atomically(start.directory.path / CODE, start.code.source)
        _record_plan(start, predicted, plan)
        recorder.begin(progress.step)
        listener.planned(start, predicted, n_validated, elapsed)

        def evaluated(now: Progress, found: Evaluation) -> None:
            scores.append(found)
            listener.evaluated(now, found, recorder.evaluated(now, found, stop))

        def replanned(longer: StepPlan) -> None:
            _record_plan(start, predicted, longer)
            listener.replanned(longer)

        def skipped(found: Skipped) -> None:
            recorder.skipped(found)
            listener.skipped(found)

        job = Job(
            loss_of=loss_of,
            optimizer=optimizer,
            batches=start.batches,
            optim=start.settings.optim,
            run=start.settings.run,
            plan=plan,
            save=lambda now: listener.saved(recorder.save(now)),
            evaluate=lambda asked: evaluate(
                model, on_the_way, token_bytes, device=run.device, stop=asked, nats_of=nats_of
            ),
            on_step=listener.stepped,
            on_log=recorder.log,
            on_evaluation=evaluated,
            on_plan=replanned,
            on_skip=skipped,
            watch=StepWatch(model),
            budget=outlook.budget,
            clock=clock,
            began=began,
        )
        progress = train_loop(job, progress, stop)

    directory = start.directory
    if directory.best and directory.best != directory.checkpoint_path(progress.step):
        best = load_model(directory.best, device=run.device, make_model=start.code.bare_model)
        model.load_state_dict(best.state_dict())  # into what is there already: a second way to compute takes memory
        del best
        final = evaluate(model, validation, token_bytes, device=run.device, nats_of=nats_of)
    else:  # windows see only themselves, so the rest can be added to what was just measured
        final, rest = scores[-1], validation[n_validated - 1 :]
        if len(rest) > 1:
            with optimizer.averaged():  # as the checkpoint has it
                final += evaluate(model, rest, token_bytes, device=run.device, nats_of=nats_of)
    latest, history = directory.latest, recorder.history()
    measured = Costs(
        parameters=predicted.parameters,
        steps=progress.step,
        tokens=progress.step * start.batches.tokens_per_step,
        seconds=clock() - began,
        tokens_per_s=statistics.median(line.tokens_per_s for line in history),
        bits_per_byte=final.bits_per_byte,
        memory_bytes=peak_bytes(),
        checkpoint_bytes=sum(file.stat().st_size for file in latest.rglob("*") if file.is_file()) if latest else 0,
    )
    plan_entries = json.loads((directory.path / PLAN_FILE).read_bytes())["plan"]
    report = dataclasses.asdict(measured) | {"plan": plan_entries, "val_bpb": final.bits_per_byte, "ngrams": ngrams}
    _write_json(directory.path / "report.json", report)
    minutes = run.minutes if start.by_the_clock else None
    return Run(directory.path, final.bits_per_byte, history, predicted, measured, minutes, ngrams)


def _ngrams(start: Start) -> dict[str, float]:
    """What counting reaches on the run's text; in a run of minutes in about a hundredth of its time."""
    prepared, minutes = start.prepared, start.settings.run.minutes
    most = int(COUNTED_PER_S * 0.01 * 60 * minutes) if minutes else MOST_TRAINED
    token_bytes = prepared.tokenizer.token_bytes()
    return ngram_bits_per_byte(prepared.train, prepared.val, token_bytes, prepared.tokenizer.vocab_size, most)


def _reported(found: Run, start: Start, clock: Callable[[], float]) -> Run:
    """The run with its report.html, which takes time as well; a full disk costs the report and nothing else."""
    before, run, seconds = clock(), start.settings.run, report_seconds(found.measured.seconds)
    try:
        gpt = load(found.directory, device=run.device, model=start.code.make_model)
        chosen = read_settings(found.directory)
        path = write_report(found.directory, chosen, start.prepared, gpt, seconds, lambda: clock() - before)
        measured = dataclasses.replace(found.measured, seconds=found.measured.seconds + clock() - before)
        file = found.directory / "report.json"
        _write_json(file, read_json(file) | {"seconds": measured.seconds})
    except (SaveError, OSError) as error:
        warnings.warn(f"the run is whole, but its report could not be written: {error}", stacklevel=2)
        return found
    return dataclasses.replace(found, measured=measured, report=path)


def _build(
    start: Start, clock: Callable[[], float]
) -> tuple[NextTokenLoss | NativeLoss, Optimizer, Progress, float]:
    """The model and its loss, optimiser, progress and seconds a step: new and probed, or as the checkpoint has them."""
    chosen = start.settings
    loss_of, optimizer = learner(start)
    progress = Progress()
    if start.state is not None:
        progress = Progress.of(start.state.counters)
    if progress.last:
        return loss_of, optimizer, progress, start.batches.tokens_per_step / progress.last.tokens_per_s
    most = 0.01 * 60 * chosen.run.minutes if chosen.run.minutes else 1.0
    pace = seconds_per_step(loss_of, optimizer, start.batches, chosen.optim.accumulation, min(1.0, most), clock)
    if start.code.is_given:  # what the probe has changed in it is not known
        del loss_of, optimizer
        loss_of, optimizer = learner(start)
    return loss_of, optimizer, progress, pace


def learner(start: Start) -> tuple[NextTokenLoss | NativeLoss, Optimizer]:
    """The model in its loss, and its optimiser, as they are before the first step from here."""
    chosen, code = start.settings, start.code
    if start.checkpoint is not None and start.state is not None:
        model = load_model(start.checkpoint, device=chosen.run.device, make_model=code.bare_model)
        optimizer = code.optimizer(model, chosen.optim)
        optimizer.restore(start.state.tensors)
    else:
        model = code.first_model(chosen.model, chosen.run.seed).to(chosen.run.device)
        optimizer = code.optimizer(model, chosen.optim)
    return training_loss(model, chosen.run), optimizer


def _record_plan(start: Start, predicted: Costs, plan: StepPlan) -> None:
    """Write config.yaml and plan.json: before the first step, and before an entry of the plan acts."""
    chosen = start.settings
    if start.by_the_clock or chosen.plan:
        chosen = dataclasses.replace(chosen, plan=plan.entries)
    write_settings(start.directory.path, chosen)
    _write_json(start.directory.path / PLAN_FILE, dataclasses.asdict(predicted) | {"plan": plan.entries})


def _remove_empty(directory: RunDirectory) -> None:
    """Of a run that left nothing, its directory neither."""
    with contextlib.suppress(OSError):
        directory.path.rmdir()


def _what_is_left(directory: RunDirectory) -> str:
    """After a failure: the last good checkpoint and how to go on from it, or that there is none yet."""
    run = shlex.quote(str(directory.path))
    anew = f"`glassgpt train --config {run}/config.yaml` begins anew, with other settings"
    if directory.latest is None:
        return f"Nothing was saved yet: {anew}"
    trust = " --trust-code" if (directory.path / CODE).is_file() else ""
    same = f"`glassgpt train --resume {run}{trust}` goes on from it with the same settings"
    return f"The last good checkpoint is {directory.latest}: {anew}; {same}"


@contextlib.contextmanager
def _advised(directory: RunDirectory) -> Iterator[None]:
    """While inside, a save that the system refuses is told with what it takes and the command that goes on."""
    try:
        yield
    except SaveError as refused:
        cause = refused.__cause__
        full = isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)
        saved, first = directory.checkpoints(), "Make room" if full else "See to the disk"
        if saved:
            step = int(saved[-1].name.removeprefix("step-"))
            then = f"go on from step {step:,} with: glassgpt train --resume {shlex.quote(str(directory.path))}"
        else:
            then = "begin again: no step is saved yet"
        raise SaveError(f"{refused}. {first}, then {then}") from cause


def _sections(*values: Mapping[str, Any] | None) -> dict[str, Mapping[str, Any] | None]:
    return dict(zip(("model", "data", "optim", "run"), values, strict=True))


def _write_json(path: Path, values: dict[str, Any]) -> None:
    write_atomically(path, (json.dumps(values, indent=2) + "\n").encode())
