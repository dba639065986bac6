"""The text of a new run read and, in a run of minutes, what to train on it chosen."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from glassgpt import settings
from glassgpt.api import minutes
from glassgpt.api.code import BUILT_IN, Code
from glassgpt.api.machine import on_this_machine, with_matmul_dtype
from glassgpt.api.merge import Given, merge
from glassgpt.api.texts import read_texts, reading_notes
from glassgpt.config import OTHER_TOOLS, DataConfig, GPTConfig, OptimConfig, RunConfig
from glassgpt.planning.choose import Choice, Speed, choose, text_facts, vocabulary_size
from glassgpt.text.documents import Reading
from glassgpt.training.probe import PROBED, machine_speed


@dataclass(frozen=True)
class Read:
    """A text, and what follows from it."""

    reading: Reading
    data: DataConfig
    run: RunConfig
    notes: tuple[str, ...]
    speed: Speed | None = None
    """Of this machine, in a run of minutes."""
    choice: Choice | None = None
    """What to train, in a run of minutes."""


def read(
    texts: Sequence[str], data: DataConfig, run: RunConfig, given: Given, code: Code, elapsed: Callable[[], float],
    phase: Callable[[str], None] = lambda what: None,
) -> Read:  # fmt: skip
    """Read `texts`, as much as the time allows, and choose what suits them. `elapsed`: seconds of the run so far.

    `phase` is told what is being done.

    Raises InputError for a text that cannot be read, and for too little time.
    """
    phase("reading the text")
    if run.minutes:
        minutes.refuse_too_short(run.minutes, elapsed())
        limit = data.max_bytes or minutes.affordable_bytes(texts, data, 60 * run.minutes)
        data = dataclasses.replace(data, max_bytes=limit)
    reading = read_texts(texts, data, code.documents)
    notes = reading_notes(reading, texts)
    if not run.minutes:
        return Read(reading, data, run, tuple(notes))
    notes += minutes.share_note(reading, texts)
    phase("measuring this machine")
    speed = machine_speed(on_this_machine(run, PROBED, code))
    facts = text_facts(reading.corpus)
    left = 60 * run.minutes - elapsed()
    choice = choose(facts, speed, left, given)
    if choice.seconds < left:
        seconds = 60 * run.minutes - left + choice.seconds + 2 * minutes.LEAVING  # to prepare the text, and to leave
        used = min(run.minutes, math.ceil(seconds / 0.6) / 100)
        notes.append(f"uses {used:g} of {run.minutes:g} minutes: more passes over this text would make it worse")
        run = dataclasses.replace(run, minutes=used)
    data = dataclasses.replace(data, tokenizer=choice.tokenizer)
    return Read(reading, data, run, tuple(notes), speed, choice)


@dataclass(frozen=True)
class Foreseen:
    """What `train --minutes` would train on a text."""

    found: Read
    choice: Choice
    model: GPTConfig
    optim: OptimConfig
    run: RunConfig


def foresee(texts: Sequence[str], given: Given, elapsed: Callable[[], float]) -> Foreseen:
    """What a run on `texts` with these settings, `run.minutes` among them, would be on this machine.

    The size of a vocabulary of characters is only known when the text is prepared; here it is about right. Raises
    InputError.
    """
    merged = merge({}, None, given, repeated=False)
    data = settings.build(DataConfig, merged["data"], "data", OTHER_TOOLS)
    run = settings.build(RunConfig, merged["run"], "run", OTHER_TOOLS)
    found = read(texts, data, run, merged, BUILT_IN, elapsed)
    assert found.choice is not None
    choice, facts = found.choice, found.choice.facts
    vocab_size = vocabulary_size(choice.tokenizer, facts)
    model = GPTConfig.from_dict({"vocab_size": vocab_size} | choice.model | merged["model"])
    run = on_this_machine(found.run, model, BUILT_IN)
    optim = settings.build(OptimConfig, choice.optim | merged["optim"], "optim", OTHER_TOOLS)
    return Foreseen(found, choice, model, with_matmul_dtype(optim, run.device), run)
