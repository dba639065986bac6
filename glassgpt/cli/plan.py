"""`glassgpt plan`: what a model is and costs, from its config alone; torch is loaded to measure this machine only."""

import dataclasses
import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from glassgpt import settings
from glassgpt.cli.plan_tables import fit, print_gpus, print_pace, print_plan
from glassgpt.cli.process import began, interruptible_imports
from glassgpt.cli.words import command
from glassgpt.config import OTHER_TOOLS, PRESETS, GPTConfig, OptimConfig, RunConfig, preset
from glassgpt.settings import InputError

if TYPE_CHECKING:
    from glassgpt.api.pace import Pace

COUNTS = ("run.dtype", "run.recompute", "run.kernel", "run.threads")
"""What of the sections `data` and `run` changes the memory of training."""
BATCH = {"batch_size": 4}
"""Of a model that says nothing of its training."""
PATIENCE = 1.0
"""Seconds after which it is said what takes so long."""
UNTOLD = "no score is foreseen: the text is shorter than all that the law of scores was fitted on"


@dataclass(frozen=True)
class Planned:
    """What is planned: a model, and as far as it is known how it is trained."""

    name: str
    model: GPTConfig
    about: str = ""
    """Where it came from, a line."""
    optim: Mapping[str, Any] = dataclasses.field(default_factory=lambda: BATCH)
    run: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    weights: bool = True
    """Whether a model directory holds them."""


def plan(
    what: str = "gpt2-small",
    /,
    *,
    minutes: float | None = None,
    measure: bool = True,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
    overrides: Annotated[dict[str, dict[str, str]] | None, Parameter(parse=False)] = None,
) -> int:
    """Say what a model is and costs: parameters, storage, memory to train, arithmetic, time here and on GPUs.

    Any field can be changed, such as --model.n-layers 6, and what memory is counted for with --optim.batch-size 4,
    --optim.accumulation 2, --run.dtype bf16, --run.recompute and --run.kernel native.

    Parameters
    ----------
    what
        A preset, a run, a checkpoint, any Hugging Face directory, or a text (the model that
        `train --steps` takes for it, or with --minutes what that many minutes of `train` would train).
    minutes
        Time of a run on the text: says what would be trained in it on this machine, whose speed is measured.
    measure
        Measure a few steps of training on this machine, which takes some seconds.
    as_json
        Print one JSON object, and nothing else, on standard output.
    """
    from glassgpt.planning.plan import plan as plan_of

    if not what.strip():
        raise InputError("what is to be planned has no name: give a preset, a run, a model directory or a text")
    given = overrides or {}
    if minutes is not None:
        return _plan_of_minutes(what, minutes, given, as_json)
    for section in ("data", "run"):
        for field in given.get(section, {}):
            if f"{section}.{field}" not in COUNTS:
                raise InputError(f"--{section}.{field} does not change what a model costs: leave it out")
    found = _planned(what, given.get("model", {}))
    optim = settings.build(OptimConfig, {**found.optim, **given.get("optim", {})}, "optim", OTHER_TOOLS)
    asked = settings.build(RunConfig, {**found.run, **given.get("run", {})}, "run", OTHER_TOOLS)
    run = dataclasses.replace(asked, threads=asked.threads or os.cpu_count() or 1)
    result = plan_of(found.model, optim, run)
    if as_json:
        pace = _pace(found.model, optim, asked) if measure else None
        here = {"this_machine": pace.to_dict() if pace else None}
        print(json.dumps({"name": found.name, "model": found.model.to_dict()} | result.to_dict() | here))
        return 0
    table, fitting = fit(found.model, optim, run, result.training_memory["total"])
    unsettled = "auto" in (asked.dtype, asked.kernel)
    if unsettled:
        where = "below" if measure else "told without --no-measure"
        note = f"as PyTorch computes it; `train` takes what is fastest on this machine, whose memory is {where}"
        table = [note] if measure else [note, *table]
    print_plan(found.name, found.about, found.model, optim, run, result, table)
    if what in ("gpt2-small", "gpt2-124m", "gpt2") and not given.get("model"):
        from glassgpt.planning.parameters import meanings_of_124m

        print('\n"124M" has four meanings')
        for meaning, n in meanings_of_124m().items():
            print(f"  {n:>12,}  {meaning}")
    print_gpus(result)
    if measure:
        print("\nmeasuring this machine ...", file=sys.stderr, flush=True)
        sys.stdout.flush()
        pace = _pace(found.model, optim, asked)
        here = {field: getattr(pace, field) for field in ("device", "dtype", "kernel")}
        settled = dataclasses.replace(run, **here)
        lines, fitting = fit(found.model, optim, settled, pace.training_memory_bytes)
        print_pace(pace, optim, found.model, result, lines if unsettled else [])
    print("\n(MB of weights are 2^20 bytes, as in the chapter; all others 10^6.)")
    print(f"\nNext: {_next(what, found, given, fitting)}", file=sys.stderr)
    return 0


def _pace(model: GPTConfig, optim: OptimConfig, run: RunConfig) -> "Pace":
    with interruptible_imports():
        from glassgpt.api.pace import pace_here
    return pace_here(model, optim, run)


def _plan_of_minutes(text: str, minutes: float, given: dict[str, dict[str, str]], as_json: bool) -> int:
    """What `train TEXT --minutes` would do."""
    if text in PRESETS or Path(text, "config.json").exists() or Path(text, "config.yaml").exists():
        raise InputError(f"--minutes plans a run on a text, and {text} is none: give a text, or leave --minutes out")
    from glassgpt.api.choice import foresee
    from glassgpt.planning.choose import FORETOLD
    from glassgpt.planning.plan import plan as plan_of

    started = began()
    run = {**given.get("run", {}), "minutes": minutes}
    with saying_after(f"reading {text}, and measuring this machine", PATIENCE):
        foreseen = foresee([text], {**given, "run": run}, lambda: time.perf_counter() - started)
    choice, model, optim = foreseen.choice, foreseen.model, foreseen.optim
    result = plan_of(model, optim, foreseen.run)
    if as_json:
        chosen = {"tokenizer": choice.tokenizer, "optim": choice.optim, "why": choice.why}
        chosen |= {"minutes": foreseen.run.minutes, "steps": choice.steps, "bits_per_byte": choice.bits_per_byte}
        print(json.dumps({"name": text, "model": model.to_dict()} | chosen | result.to_dict()))
        return 0
    score = "" if choice.bits_per_byte is None else f", to about {choice.bits_per_byte:.2f} bits per byte"
    batch = f"{optim.batch_size} x {model.context_length} tokens"
    about = [
        f"{foreseen.run.minutes:g} minutes: about {choice.steps:,} steps of {batch}, {optim.name}{score}",
        *choice.why,
        *([UNTOLD] if choice.facts.bytes < FORETOLD else []),
        *foreseen.found.notes,
    ]
    lines, fitting = fit(model, optim, foreseen.run, result.training_memory["total"])
    print_plan(text, "\n".join(about), model, optim, foreseen.run, result, lines)
    print_gpus(result)
    print("\n(MB of weights are 2^20 bytes, as in the chapter; all others 10^6.)")
    print(f"\nNext: {command('train', text, '--minutes', f'{minutes:g}', *_flags(given, fitting))}", file=sys.stderr)
    return 0


def _planned(what: str, model: Mapping[str, Any]) -> Planned:
    """What the user named, with the fields of `model` changed. Raises InputError."""
    path = Path(what)
    if not path.exists() and not glob_like(what):
        try:
            values = preset(what)
        except InputError as error:
            if "/" not in what and not path.suffix and what != "pydoc":
                raise InputError(f"{error} (a run, a model directory or a text will do as well)") from None
        else:
            return Planned(what, GPTConfig.from_dict(values | dict(model)))
    if path.is_dir():
        from glassgpt.checkpoint.run import find_checkpoint

        try:
            found = find_checkpoint(what)
        except InputError:
            if not any(path.glob("*.txt")):
                raise
        else:
            return _planned_of_directory(found, model)
    from glassgpt.text.documents import read_documents
    from glassgpt.text.kinds import auto_spec, parse_spec

    with saying_after(f"reading {what}", PATIENCE):
        n_bytes = read_documents([what]).corpus.n_bytes
    spec = auto_spec(n_bytes)
    vocab_size = parse_spec(spec)[1] or 257
    values = PRESETS["modern-tiny"] | {"vocab_size": vocab_size} | dict(model)
    about = f"for {what}: {n_bytes:,} bytes, tokenizer {spec}"
    return Planned("modern-tiny", GPTConfig.from_dict(values), about)


def _planned_of_directory(checkpoint: Path, model: Mapping[str, Any]) -> Planned:
    """A model directory; one of a run is trained as the run was."""
    from glassgpt.checkpoint.huggingface_config import filled_in, load_config, read_config
    from glassgpt.checkpoint.run_settings import SETTINGS_FILE, read_settings
    from glassgpt.files.manifest import CONFIG

    name = os.path.relpath(checkpoint)
    config = GPTConfig.from_dict(load_config(checkpoint).to_dict() | dict(model))
    run = checkpoint.resolve().parent
    if not (run / SETTINGS_FILE).is_file():
        usual = filled_in(read_config(checkpoint / CONFIG))
        values = ", ".join(f"{value:,}" for value in usual.values())
        about = f"{CONFIG} leaves out {', '.join(usual)}: as in transformers, they are {values}" if usual else ""
        return Planned(name, config, about, weights=_has_weights(checkpoint))
    trained = read_settings(run)
    counts = {field: getattr(trained.run, field) for field in (name.partition(".")[2] for name in COUNTS)}
    return Planned(name, config, "trained as its run was", settings.to_dict(trained.optim), counts)


def glob_like(what: str) -> bool:
    """Whether it is a pattern of files."""
    return any(sign in what for sign in "*?[")


def _has_weights(directory: Path) -> bool:
    from glassgpt.checkpoint.stored import INDEX, WEIGHTS

    return (directory / WEIGHTS).is_file() or (directory / INDEX).is_file()


@contextmanager
def saying_after(what: str, seconds: float) -> Iterator[None]:
    """While inside: say on standard error what is being done, if it takes longer than that."""
    timer = threading.Timer(seconds, print, [f"  {what} ..."], {"file": sys.stderr, "flush": True})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _next(what: str, found: Planned, given: Mapping[str, Mapping[str, str]], fitting: list[str] | None) -> str:
    """What to type next: what was planned, with the flags that make it fit."""
    if fitting is None:
        return command("plan", "modern-tiny")
    flags = _flags(given, fitting)
    if not found.weights:
        return command("train", "book.txt", *_flags({**given, "model": _to_build(found.model)}, fitting))
    if Path(what).is_dir() and found.name != "modern-tiny":
        return command("generate", what)
    if Path(what).exists() or glob_like(what) or what == "pydoc":
        return command("train", what, *flags)
    return command("train", "book.txt", "--preset", found.name, *flags)


def _to_build(config: GPTConfig) -> dict[str, Any]:
    """The fields that make a model of a text's vocabulary; what follows from these by itself is left out."""
    values = config.to_dict()
    sizes = {name: values[name] for name in ("architecture", "n_layers", "embedding_dim", "n_heads", "context_length")}
    usual = GPTConfig.from_dict(sizes | {"vocab_size": config.vocab_size}).to_dict()
    return sizes | {name: value for name, value in values.items() if value != usual[name]}


def _flags(given: Mapping[str, Mapping[str, Any]], fitting: list[str] | None) -> list[str]:
    """The fields that were changed, and after them those that make a model fit."""
    changed = {
        f"--{section}.{name.replace('_', '-')}": str(value)
        for section, fields in given.items()
        for name, value in fields.items()
    }
    fitting = fitting or []
    return [word for flag, value in changed.items() if flag not in fitting for word in (flag, value)] + fitting
