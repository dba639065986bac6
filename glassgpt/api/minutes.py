"""What a run of minutes settles before its text is read: whether the time suffices, how much text, what to train."""

import dataclasses
import math
import time
from collections.abc import Sequence

from glassgpt.api.texts import read_texts
from glassgpt.config import DataConfig, Settings
from glassgpt.planning.choose import Speed
from glassgpt.settings import InputError
from glassgpt.text.documents import Reading, size_of
from glassgpt.text.kinds import train_tokenizer

READING_SHARE = 0.2
"""Of the budget that may go into reading and tokenising."""
SLOWEST = 8e5
"""Bytes a second that about every machine prepares: a text within this needs no measuring."""
TRIED_BYTES = 300_000
LEAST_STEPS = 10
"""A run with fewer would have learned nothing: it is refused."""
LEAVING = 1.5
"""Seconds to save, write a sample and end, at least."""


def affordable_bytes(sources: Sequence[str], data: DataConfig, seconds: float) -> int | None:
    """How much of a text can be read and tokenised in its share of the budget; None: all of it.

    Measured on the beginning of the text, where the text is large. A small beginning has more different words for its
    size than a large text, so the estimate is on the safe side.
    """
    size = size_of(sources)
    if size <= READING_SHARE * seconds * SLOWEST:
        return None
    if math.isinf(size):  # what was read of it could perhaps not be read again
        return int(READING_SHARE * seconds * SLOWEST)
    began = time.perf_counter()
    reading = read_texts(sources, dataclasses.replace(data, invalid_utf8="replace", max_bytes=TRIED_BYTES))
    spec = "bpe:4096" if data.tokenizer == "auto" else data.tokenizer
    tokenizer = train_tokenizer(spec, reading.corpus.all().sample())
    for _ in tokenizer.encode_parts(reading.corpus.all().parts()):
        pass
    n_bytes = reading.corpus.n_bytes
    affordable = int(READING_SHARE * seconds * n_bytes / (time.perf_counter() - began))
    return affordable if affordable < size else None


def share_note(reading: Reading, sources: Sequence[str]) -> list[str]:
    """What to tell of a text that was read in part."""
    if not reading.is_cut:
        return []
    n_bytes = reading.corpus.n_bytes
    size = size_of(sources)
    whole = "" if math.isinf(size) else f" of {size / 1e6:,.1f} MB"
    return [
        f"read the first {n_bytes / 1e6:,.1f} MB{whole}, so that reading and tokenising take at most "
        f"{READING_SHARE:.0%} of the time; --data.max-bytes reads another share"
    ]


def refuse_too_short(
    minutes: float, elapsed: float, chosen: Settings | None = None, speed: Speed | None = None, val_tokens: int = 0
) -> None:
    """Raise InputError where `minutes` are fewer than what cannot be done without.

    That is what has passed, a few steps, evaluating all of the validation text, and leaving; as far as it is known.
    """
    least = elapsed + LEAVING
    why = f"starting and ending takes {least:.1f} s here"
    if chosen and speed:
        step = speed.step_seconds(chosen.model, chosen.optim)
        tokens = chosen.optim.batch_size * chosen.model.context_length
        evaluation = step / 3 * val_tokens / tokens  # a forward pass is a third of a step
        least += (LEAST_STEPS + 3) * step + evaluation
        why += f", {LEAST_STEPS} steps of this model {LEAST_STEPS * step:.1f} s, evaluating it {evaluation:.1f} s"
    if 60 * minutes < least:
        enough = math.ceil(least * 1.2 / 0.6) / 100  # a machine is not equally fast each time
        raise InputError(f"run.minutes is {minutes:g}, but {why}: give at least --minutes {enough:g}")
