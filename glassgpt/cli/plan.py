"""`glassgpt plan`: what a model is and costs, from its config alone; torch is needed for `--minutes` only."""

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from glassgpt import settings
from glassgpt.cli.process import began
from glassgpt.cli.words import command, count, number, size
from glassgpt.config import OTHER_TOOLS, PRESETS, GPTConfig, OptimConfig, RunConfig, preset
from glassgpt.settings import InputError

if TYPE_CHECKING:
    from glassgpt.planning.plan import Plan

COUNTS = ("run.dtype", "run.recompute", "run.kernel", "run.threads")
"""What of the sections `data` and `run` changes the memory of training."""
BAR = 24
"""Columns of a bar that stands for everything."""


def plan(
    what: str = "gpt2-small",
    /,
    *,
    minutes: float | None = None,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
    overrides: Annotated[dict[str, dict[str, str]] | None, Parameter(parse=False)] = None,
) -> int:
    """Say what a model is and costs: parameters, storage, memory to train, arithmetic.

    Any field can be changed, such as --model.n-layers 6, and what memory is counted for with --optim.batch-size 4,
    --optim.accumulation 2, --run.dtype bf16, --run.recompute and --run.kernel native.

    Parameters
    ----------
    what
        A preset, a run, a checkpoint, any Hugging Face directory, or a text (the model that
        `train --steps` takes for it, or with --minutes what that many minutes of `train` would train).
    minutes
        Time of a run on the text: says what would be trained in it on this machine, whose speed is measured.
    as_json
        Print one JSON object, and nothing else, on standard output.
    """
    from glassgpt.planning.plan import plan as plan_of

    given = overrides or {}
    if minutes is not None:
        return _plan_of_minutes(what, minutes, given, as_json)
    for section in ("data", "run"):
        for field in given.get(section, {}):
            if f"{section}.{field}" not in COUNTS:
                raise InputError(f"--{section}.{field} does not change what a model costs: leave it out")
    name, config, about = _config(what, given.get("model", {}))
    optim = settings.build(OptimConfig, {"batch_size": 4, **given.get("optim", {})}, "optim", OTHER_TOOLS)
    run = settings.build(RunConfig, given.get("run", {}), "run", OTHER_TOOLS)
    result = plan_of(config, optim, run)
    if as_json:
        print(json.dumps({"name": name, "model": config.to_dict()} | result.to_dict()))
        return 0
    _print(name, about, config, optim, run, result)
    if what in ("gpt2-small", "gpt2-124m", "gpt2") and not given.get("model"):
        from glassgpt.planning.parameters import meanings_of_124m

        print('\n"124M" has four meanings')
        for meaning, n in meanings_of_124m().items():
            print(f"  {n:>12,}  {meaning}")
    print("\n(MB of weights are 2^20 bytes, as in the chapter; all others 10^6.)")
    print(f"\nNext: {_next(what, name)}", file=sys.stderr)
    return 0


def _plan_of_minutes(text: str, minutes: float, given: dict[str, dict[str, str]], as_json: bool) -> int:
    """What `train TEXT --minutes` would do."""
    if text in PRESETS or Path(text, "config.json").exists() or Path(text, "config.yaml").exists():
        raise InputError(f"--minutes plans a run on a text, and {text} is none: give a text, or leave --minutes out")
    from glassgpt.api.choice import foresee
    from glassgpt.planning.plan import plan as plan_of

    started = began()
    run = {**given.get("run", {}), "minutes": minutes}
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
        *foreseen.found.notes,
    ]
    _print(text, "\n".join(about), model, optim, foreseen.run, result)
    print("\n(MB of weights are 2^20 bytes, as in the chapter; all others 10^6.)")
    print(f"\nNext: {command('train', text, '--minutes', f'{minutes:g}')}", file=sys.stderr)
    return 0


def _print(name: str, about: str, config: GPTConfig, optim: OptimConfig, run: RunConfig, result: "Plan") -> None:
    """The tables."""
    total = sum(result.parameters.values())
    shape = f"{number(config.n_layers, 'layer')}, {config.embedding_dim} wide, {number(config.n_heads, 'head')}"
    print(f"{name}: {config.architecture}, {shape}")
    if about:
        print(about)
    print(f"\nParameters {total:>28,}")
    for component, n in result.parameters.items():
        print(f"  {component.replace('_', ' '):<22}{n:>15,}  {n / total:>6.1%}  {_bar(n / total)}")
    print("\nStorage of the weights")
    for precision, n_bytes in result.bytes.items():
        share = n_bytes / result.bytes["fp32"]
        print(f"  {precision:<22}{n_bytes / 2**20:>12,.2f} MB  {share:>6.1%}  {_bar(share)}")
    print(f"  {'checkpoint to resume':<22}{result.checkpoint_bytes / 2**20:>12,.2f} MB")
    memory = result.training_memory
    how = f"{'bf16' if run.dtype == 'bf16' else 'fp32'}, {optim.name}"
    batch = f"{optim.batch_size // optim.accumulation} x {config.context_length} tokens at a time, {how}"
    print(f"\nMemory to train ({batch}), at its peak {size(memory['total'])}")
    for part, n_bytes in memory.items():
        if part != "total":
            share = n_bytes / memory["total"]
            print(f"  {part:<22}{size(n_bytes):>15}  {share:>6.1%}  {_bar(min(1.0, share))}")
    if (rest := 2 * memory["total"] - sum(memory.values())) > 0:
        print(f"  {'PyTorch, and buffers':<22}{size(rest):>15}  {rest / memory['total']:>6.1%}")
    flops = result.flops_per_token
    print("\nA token")
    print(f"  {'forward':<22}{count(flops['forward']):>15} FLOP")
    print(f"  {'backward':<22}{count(flops['backward']):>15} FLOP")
    print(f"  {'in the cache':<22}{size(result.cache_bytes_per_token):>15}")


def _config(what: str, model: Mapping[str, Any]) -> tuple[str, GPTConfig, str]:
    """Name, config, and a line about where it came from."""
    path = Path(what)
    if not path.exists() and not glob_like(what):
        try:
            values = preset(what)
        except InputError as error:
            if "/" not in what and not path.suffix and what != "pydoc":
                raise InputError(f"{error} (a run, a model directory or a text will do as well)") from None
        else:
            return what, GPTConfig.from_dict(values | dict(model)), ""
    if path.is_dir():
        from glassgpt.checkpoint.run import find_checkpoint

        try:
            found = find_checkpoint(what)
        except InputError:
            if not any(path.glob("*.txt")):
                raise
        else:
            from glassgpt.checkpoint.huggingface_config import load_config

            values = load_config(found).to_dict()
            return os.path.relpath(found), GPTConfig.from_dict(values | dict(model)), ""
    from glassgpt.text.documents import read_documents
    from glassgpt.text.kinds import auto_spec, parse_spec

    n_bytes = read_documents([what]).corpus.n_bytes
    spec = auto_spec(n_bytes)
    vocab_size = parse_spec(spec)[1] or 257
    values = PRESETS["modern-tiny"] | {"vocab_size": vocab_size} | dict(model)
    return "modern-tiny", GPTConfig.from_dict(values), f"for {what}: {n_bytes:,} bytes, tokenizer {spec}"


def glob_like(what: str) -> bool:
    """Whether it is a pattern of files."""
    return any(sign in what for sign in "*?[")


def _bar(share: float) -> str:
    eighths = round(share * BAR * 8)
    return "█" * (eighths // 8) + (" ▏▎▍▌▋▊▉"[eighths % 8] if eighths % 8 else "")


def _next(what: str, name: str) -> str:
    if Path(what).is_dir():
        return command("generate", what)
    if Path(what).is_file():
        return command("train", what)
    return command("train", "book.txt", "--preset", name)
