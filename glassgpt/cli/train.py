"""`glassgpt train`: a text in, a GPT out."""

import contextlib
import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from glassgpt import settings
from glassgpt.cli.numbers import Whole
from glassgpt.cli.process import began, interruptible_imports, signal_of
from glassgpt.cli.training_view import PlainView, view_of
from glassgpt.cli.words import command
from glassgpt.config import DIALECTS, OTHER_TOOLS, SECTIONS
from glassgpt.config import preset as preset_values
from glassgpt.settings import InputError

if TYPE_CHECKING:
    from glassgpt.api.train import Run


def train(
    *text: Annotated[str, Parameter(allow_leading_hyphen=True)],
    minutes: float | None = None,
    steps: Whole | None = None,
    tokens: Whole | None = None,
    preset: str | None = None,
    tokenizer: str | None = None,
    val_fraction: float | None = None,
    out: str | None = None,
    resume: str | None = None,
    config: str | None = None,
    seed: Whole | None = None,
    trust_code: Annotated[bool, Parameter(negative="")] = False,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
    overrides: Annotated[dict[str, dict[str, str]] | None, Parameter(parse=False)] = None,
) -> int:
    """Train a GPT on your text, in the minutes that you have.

    Tokenizer, model, batch and learning rate are chosen for the text and the time, and shown. Every setting can also
    be given as --model.FIELD, --data.FIELD, --optim.FIELD or --run.FIELD, such as --model.n-layers 6
    --optim.learning-rate 1e-3; config.yaml of a run lists them all.

    Parameters
    ----------
    text
        Text files, folders, globs, - for standard input, or pydoc: Python's own documentation (the default).
    minutes
        Time for everything, from the start of the process to its end (10 if neither --steps nor --tokens is given).
    steps
        Steps of the optimiser, instead of --minutes.
    tokens
        Tokens to train on, instead of --minutes.
    preset
        modern-tiny (what --steps and --tokens take by themselves), -mini, -small, -medium or -large, or gpt2-small,
        -medium, -large or -xl.
    tokenizer
        auto (by the size of the text), gpt2, bpe:N (N tokens, trained on your text), chars or bytes.
    val_fraction
        Share of the text, from its end, kept apart to measure bits per byte (0.1).
    out
        Directory of the run (runs/NAME, and runs/NAME-2 where that exists).
    resume
        A run to go on with, from its latest checkpoint; without a name, the newest run.
    config
        A YAML file with settings, such as config.yaml of another run.
    seed
        Of the weights, the order of the text and dropout (1337).
    trust_code
        Let --resume run the code that the run was trained with.
    as_json
        Print one JSON object at the end, and nothing else, on standard output.
    """
    view = PlainView(sys.stderr) if as_json else view_of(sys.stdout)
    view.resume_trust = ("--trust-code",) if trust_code else ()
    if text[:1] == ("-",) and sys.stdin.isatty():
        view.line("Type or paste the text, then end it with Ctrl-D (on Windows Ctrl-Z and Enter).")
    if resume is not None and (text or preset or tokenizer or config or out):
        raise InputError(
            f"--resume {resume} goes on with the run's own text and settings: leave TEXT, --preset, --tokenizer, "
            "--config and --out away, or start a new run"
        )
    given: dict[str, dict[str, Any]] = {section: dict((overrides or {}).get(section, {})) for section in SECTIONS}
    if val_fraction is not None:
        given["data"]["val_fraction"] = str(val_fraction)
    named = {"minutes": minutes, "steps": steps, "tokens": tokens, "seed": seed}
    if tokenizer is not None:
        given["data"]["tokenizer"] = tokenizer
    _refuse_early(given, {name: value for name, value in named.items() if value is not None}, preset)

    from glassgpt.text.documents import refuse_missing

    refuse_missing(text)

    from glassgpt.training.interruption import Interrupted

    try:
        with view:
            if not text and resume is None and config is None and "code" not in given["run"]:  # it may give the text
                view.line("No text given, so Python's own documentation is read (`pydoc`); give a file for yours.")
            view.phase("loading PyTorch")
            with interruptible_imports():
                from glassgpt.api.train import train as train_run

            run = (_printing_aside(train_run) if as_json else train_run)(
                text, minutes=minutes, steps=steps, tokens=tokens, preset=preset, tokenizer=tokenizer, seed=seed,
                out=out, resume=resume, config=config, trust_code=trust_code, listener=view, began=began(),
                model=given["model"], data=given["data"], optim=given["optim"], run=given["run"],
            )  # fmt: skip
    except Interrupted as stopped:
        again = command("train", "--resume", *filter(None, [view.directory or resume]), *view.resume_trust)
        view.line(f"{stopped}; everything is saved. Go on with:\n  {again}")
        return 130
    except KeyboardInterrupt as stopped:
        kept = "nothing was begun" if resume is None else "the run is as it was"
        view.line(f"stopped by {signal_of(stopped)} before the first step; {kept}")
        return 130
    view.finished(run)
    if as_json:
        print(json.dumps(run.to_dict()))
    return 0


def _refuse_early(given: dict[str, dict[str, Any]], named: dict[str, Any], preset: str | None) -> None:
    """Raise InputError for what can be seen to be wrong before PyTorch is loaded, which takes a second or more.

    Sizes of a model and of its training are only checked by name and type: whether they suit each other depends on
    what is not chosen yet.
    """
    if preset is not None:
        preset_values(preset)
    if (spec := given["data"].get("tokenizer", "auto")) != "auto":
        from glassgpt.text.kinds import parse_spec

        parse_spec(spec)
    model = {DIALECTS.get(name, name): value for name, value in given["model"].items()}
    settings.typed(SECTIONS["model"], model, "model", OTHER_TOOLS)
    settings.typed(SECTIONS["optim"], given["optim"], "optim", OTHER_TOOLS)
    settings.build(SECTIONS["data"], given["data"], "data", OTHER_TOOLS)
    settings.build(SECTIONS["run"], given["run"] | named, "run", OTHER_TOOLS)


def _printing_aside(train: "Callable[..., Run]") -> "Callable[..., Run]":
    """`train`, and what the user's own code prints goes to standard error: standard output is for JSON alone."""

    def printing_aside(*arguments: Any, **settings: Any) -> "Run":
        with contextlib.redirect_stdout(sys.stderr):
            return train(*arguments, **settings)

    return printing_aside
