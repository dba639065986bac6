"""What training says before its first step."""

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from glassgpt.checkpoint.run import KEPT
from glassgpt.cli.words import clock_time, count, duration, number, size

if TYPE_CHECKING:
    from glassgpt.api.start import Start
    from glassgpt.api.train import Costs


def header(start: "Start", costs: "Costs", validated_tokens: int, elapsed: float) -> list[str]:
    """What was read, what will be built, what it is expected to take."""
    chosen, facts = start.settings, start.prepared.facts
    model, optim, run = chosen.model, chosen.optim, chosen.run
    epochs = costs.tokens / max(1, facts.train_tokens)
    part = "" if validated_tokens >= facts.val_tokens else f"; on the way, {count(validated_tokens)} tokens of it"
    grouped = f" ({model.n_kv_heads} of keys)" if model.n_kv_heads != model.n_heads else ""
    where = f"{run.device}, {run.dtype}" + (f", {number(run.threads, 'thread')}" if run.device == "cpu" else "")
    where += ", native step" if run.kernel == "native" else ""
    kinds = f"{facts.vocab_size:,} different"
    if facts.tokenizer == "chars":
        kinds = f"{facts.vocab_size:,} different, the text's characters and all other bytes"
    resumed = f", resumed from {start.checkpoint.name}" if start.checkpoint else ""
    left = costs.seconds - elapsed
    score = "" if costs.bits_per_byte is None else f"; about {costs.bits_per_byte:.2f} bits per byte"
    about = "about " if start.by_the_clock else ""
    rows = [
        ("text", f"{_names(chosen.text)}: {_read(start)}{facts.characters:,} characters, {facts.words:,} words"),
        ("", f"validation: the last {facts.val_fraction:.1%}, {facts.val_characters:,} characters{part}"),
        ("tokens", f"{facts.tokenizer}: {kinds}, {facts.train_tokens:,} to train on"),
        (
            "model",
            f"{model.architecture}: {number(model.n_layers, 'layer')}, {model.embedding_dim} wide, "
            f"{number(model.n_heads, 'head')}{grouped}, context {model.context_length}: "
            f"{count(costs.parameters)} parameters",
        ),
        (
            "training",
            f"{about}{costs.steps:,} steps of {optim.batch_size} x {model.context_length} tokens: "
            f"{count(costs.tokens)} tokens, {epochs:.1f} epochs; {_optimizer(start)}",
        ),
        ("machine", f"{where}: {count(costs.tokens_per_s)} tokens/s"),
        (
            "expect",
            f"{duration(left)} from here, until {clock_time(left)}; {size(costs.memory_bytes)} of memory; "
            f"{size((KEPT + 1) * costs.checkpoint_bytes)} of disk{score}",
        ),
        *(("why" if not n else "", line) for n, line in enumerate(start.choice.why if start.choice else ())),
        *_warnings(start, costs),
        ("run", f"{shown(start.directory.path)}, seed {run.seed}{resumed}"),
        *(("note", note) for note in start.notes),
    ]
    return [f"  {name:<10}{value}" for name, value in rows]


def _optimizer(start: "Start") -> str:
    optim = start.settings.optim
    if start.code.make_optimizer:
        return f"an optimiser of your own (its rates times the share of {optim.learning_rate:g} that the schedule has)"
    if optim.name == "muon":
        rest = f"adamw for what is no matrix: {optim.learning_rate:g}"
        return f"muon, learning rate {optim.muon_learning_rate:g} ({rest})"
    return f"{optim.name}, learning rate {optim.learning_rate:g}"


def _warnings(start: "Start", costs: "Costs") -> list[tuple[str, str]]:
    """What stands in the way."""
    needed, free = (KEPT + 1) * costs.checkpoint_bytes, shutil.disk_usage(start.directory.path).free
    if needed <= free:
        return []
    return [("warning", f"only {size(free)} of disk are free, {size(needed)} are needed: make room, or choose --out")]


def _read(start: "Start") -> str:
    """How many files of which formats, and how many documents, where it is more than one text."""
    found: list[str] = []
    n_files = sum(start.files.values())
    if n_files > 1 or any(kind not in ("text", "pydoc") for kind in start.files):
        kinds = ", ".join(f"{n:,} {kind}" for kind, n in sorted(start.files.items(), key=lambda item: -item[1]))
        only = next(iter(start.files)) if len(start.files) == 1 else kinds
        found.append(f"{number(n_files, 'file')} ({only})")
    if start.prepared.facts.documents != n_files:
        found.append(number(start.prepared.facts.documents, "document"))
    return "".join(f"{part}, " for part in found)


def _names(texts: list[str]) -> str:
    names = [str(shown(Path(text))) for text in texts]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def shown(path: Path) -> Path:
    """A path as short as it can be typed from here."""
    inside = path.is_absolute() and path.is_relative_to(Path.cwd())
    return Path(os.path.relpath(path)) if inside else path
