"""train(): a text in, a GPT out."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from glassgpt import settings
from glassgpt.api.record import Recorder
from glassgpt.api.start import Start, new_start, resumed_start
from glassgpt.checkpoint.atomic import write_atomically
from glassgpt.checkpoint.directory import load_model
from glassgpt.evaluation.bits_per_byte import Evaluation, evaluate
from glassgpt.model import GPTModel, initialise
from glassgpt.optim.groups import make_optimizer
from glassgpt.optim.optimizer import Optimizer
from glassgpt.planning.memory import checkpoint_bytes, training_memory
from glassgpt.planning.parameters import total_parameters
from glassgpt.training.interruption import stop_on_signals
from glassgpt.training.loop import Job, Progress
from glassgpt.training.loop import train as train_loop
from glassgpt.training.metrics import Metrics, peak_bytes, resident_bytes
from glassgpt.training.probe import seconds_per_step
from glassgpt.training.step import training_loss

EVALUATION_SHARE = 0.03
"""Of a run's work that may go into evaluations on the way: they use as much of the validation text as fits."""


@dataclass(frozen=True)
class Costs:
    """What a run takes: predicted in plan.json, measured in report.json."""

    parameters: int
    steps: int
    tokens: int
    seconds: float
    tokens_per_s: float
    memory_bytes: int
    """Peak of the process while it trains."""
    checkpoint_bytes: int
    """Disk space of one checkpoint; a run keeps two, and needs room for a third while it saves."""


@dataclass(frozen=True)
class Run:
    """A finished run."""

    directory: Path
    bits_per_byte: float
    """Of the best checkpoint on all of the validation text."""
    history: list[Metrics]
    predicted: Costs
    measured: Costs

    def to_dict(self) -> dict[str, Any]:
        """What `glassgpt train --json` prints."""
        return {
            "directory": str(self.directory),
            "steps": self.measured.steps,
            "tokens": self.measured.tokens,
            "seconds": self.measured.seconds,
            "val_bpb": self.bits_per_byte,
            "parameters": self.measured.parameters,
            "predicted": dataclasses.asdict(self.predicted),
            "measured": dataclasses.asdict(self.measured),
        }


class Listener(Protocol):
    """Who watches a run: the command line's view, or `Silent`."""

    def planned(self, start: Start, costs: Costs, validated_tokens: int) -> None:
        """Before the first step."""

    def stepped(self, metrics: Metrics) -> None:
        """After every step."""

    def saved(self, checkpoint: Path) -> None:
        """After every checkpoint."""

    def evaluated(self, progress: Progress, evaluation: Evaluation, sample: str) -> None:
        """After every evaluation."""


class Silent:
    """A listener that shows nothing."""

    def planned(self, start: Start, costs: Costs, validated_tokens: int) -> None: ...

    def stepped(self, metrics: Metrics) -> None: ...

    def saved(self, checkpoint: Path) -> None: ...

    def evaluated(self, progress: Progress, evaluation: Evaluation, sample: str) -> None: ...


def train(
    text: str | Path | Sequence[str | Path] = (),
    *,
    steps: int | None = None,
    tokens: int | None = None,
    preset: str | None = None,
    tokenizer: str | None = None,
    seed: int | None = None,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    config: str | Path | None = None,
    model: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    optim: Mapping[str, Any] | None = None,
    run: Mapping[str, Any] | None = None,
    listener: Listener | None = None,
) -> Run:
    """Train a GPT on a text and return the finished run.

    `text` is what `glassgpt train` takes: files, folders, globs, "-" or "pydoc" (the default). What is given by name
    decides over the sections `model`, `data`, `optim` and `run`, these over `preset`, that over the YAML file
    `config`. With `resume`, the run in that directory goes on with its own settings.

    Raises InputError for input that cannot be used, `training.interruption.Interrupted` after Ctrl-C or SIGTERM
    with everything saved, and `training.loop.TrainingFailed` on a NaN.
    """
    given = {name: dict(section or {}) for name, section in _sections(model, data, optim, run).items()}
    named = {"steps": steps, "tokens": tokens, "seed": seed}
    given["run"] |= {name: value for name, value in named.items() if value is not None}
    if tokenizer is not None:
        given["data"]["tokenizer"] = tokenizer
    if resume is not None:
        start = resumed_start(str(resume), given)
    else:
        sources = [str(source) for source in ([text] if isinstance(text, str | Path) else text)]
        config_file, out_path = (Path(path) if path is not None else None for path in (config, out))
        start = new_start(sources, given, preset_name=preset, config_file=config_file, out=out_path)
    return _train(start, listener or Silent())


def _train(start: Start, listener: Listener) -> Run:
    chosen, prepared = start.settings, start.prepared
    interpreter_bytes = resident_bytes()  # what is there before the model
    torch.set_num_threads(chosen.run.threads)
    if chosen.run.deterministic != torch.are_deterministic_algorithms_enabled():  # to ask costs nothing, to set 1.7 s
        torch.use_deterministic_algorithms(chosen.run.deterministic)
    model, optimizer, progress, pace = _build(start)
    predicted = _predict(start, pace, interpreter_bytes)
    recorder = Recorder(start, model, optimizer)
    write_atomically(start.directory.path / "config.yaml", settings.to_yaml(chosen.to_dict()).encode())
    _write_json(start.directory.path / "plan.json", dataclasses.asdict(predicted))
    recorder.begin(progress.step)
    token_bytes = prepared.tokenizer.token_bytes()
    on_the_way = prepared.val[: _validated_tokens(start)]
    listener.planned(start, predicted, len(on_the_way))

    with stop_on_signals() as stop:
        job = Job(
            model=model,
            optimizer=optimizer,
            batches=start.batches,
            optim=chosen.optim,
            run=chosen.run,
            total_steps=start.total_steps,
            save=lambda now: listener.saved(recorder.save(now)),
            evaluate=lambda asked: evaluate(model, on_the_way, token_bytes, device=chosen.run.device, stop=asked),
            on_step=listener.stepped,
            on_log=recorder.log,
            on_evaluation=lambda now, found: listener.evaluated(now, found, recorder.evaluated(now, found)),
        )
        progress = train_loop(job, progress, stop)

    directory = start.directory
    if directory.best and directory.best != directory.checkpoint_path(progress.step):
        model = load_model(directory.best, device=chosen.run.device)
    with optimizer.averaged():  # as the latest checkpoint has it
        final = evaluate(model, prepared.val, token_bytes, device=chosen.run.device)
    latest = directory.latest
    measured = dataclasses.replace(
        predicted,
        seconds=progress.seconds,
        tokens_per_s=predicted.tokens / progress.seconds,
        memory_bytes=peak_bytes(),
        checkpoint_bytes=sum(file.stat().st_size for file in latest.rglob("*") if file.is_file()) if latest else 0,
    )
    _write_json(start.directory.path / "report.json", dataclasses.asdict(measured) | {"val_bpb": final.bits_per_byte})
    return Run(start.directory.path, final.bits_per_byte, recorder.history(), predicted, measured)


def _build(start: Start) -> tuple[GPTModel, Optimizer, Progress, float]:
    """Model, optimiser, progress and seconds a step: new and probed, or as the checkpoint has them."""
    chosen = start.settings
    if start.checkpoint is not None and start.state is not None:
        model = load_model(start.checkpoint, device=chosen.run.device)
        optimizer = make_optimizer(model, chosen.optim)
        optimizer.restore(start.state.tensors)
        counters = start.state.counters
        last = Metrics(**counters["last"]) if counters["last"] else None
        progress = Progress(counters["step"], counters["seconds"], last)
        return model, optimizer, progress, progress.seconds / max(1, progress.step)
    model = GPTModel(chosen.model)
    initialise(model, torch.Generator().manual_seed(chosen.run.seed))
    model.to(chosen.run.device)
    optimizer = make_optimizer(model, chosen.optim)
    loss_of = training_loss(model, chosen.run)
    return model, optimizer, Progress(), seconds_per_step(loss_of, optimizer, start.batches, chosen.optim.accumulation)


def _predict(start: Start, seconds_per_step: float, interpreter_bytes: int) -> Costs:
    chosen = start.settings
    optim = chosen.optim
    memory = training_memory(chosen.model, optim.batch_size, optim.accumulation, interpreter_bytes, optim)
    tokens_per_step = start.batches.tokens_per_step
    return Costs(
        parameters=total_parameters(chosen.model),
        steps=start.total_steps,
        tokens=start.total_steps * tokens_per_step,
        seconds=start.total_steps * seconds_per_step * (1 + EVALUATION_SHARE),
        tokens_per_s=tokens_per_step / seconds_per_step,
        memory_bytes=max(memory["total"], peak_bytes()),  # the probe has been there already
        checkpoint_bytes=checkpoint_bytes(chosen.model, optim=optim),
    )


def _validated_tokens(start: Start) -> int:
    """How many tokens the evaluations on the way use. To evaluate a token costs a third of training on it."""
    evaluations = -(-start.total_steps // start.settings.run.eval_every)
    affordable = int(EVALUATION_SHARE * 3 * start.total_steps * start.batches.tokens_per_step / evaluations)
    length = start.settings.model.context_length
    return min(len(start.prepared.val), max(affordable // length, 16) * length + 1)


def _sections(*values: Mapping[str, Any] | None) -> dict[str, Mapping[str, Any] | None]:
    return dict(zip(("model", "data", "optim", "run"), values, strict=True))


def _write_json(path: Path, values: dict[str, Any]) -> None:
    write_atomically(path, (json.dumps(values, indent=2) + "\n").encode())
