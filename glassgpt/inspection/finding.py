"""What is looked at to judge a run, and what is said of it."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from glassgpt.checkpoint.run import RunDirectory
from glassgpt.inspection.text_health import TextHealth


class Line(Protocol):
    """What is read of a line of metrics.jsonl."""

    @property
    def step(self) -> int: ...
    @property
    def loss(self) -> float: ...
    @property
    def val_bpb(self) -> float | None: ...
    @property
    def lr(self) -> float: ...
    @property
    def grad_norm(self) -> float: ...
    @property
    def tokens_per_s(self) -> float: ...


@dataclass(frozen=True)
class Finding:
    """Something that looks wrong."""

    name: str
    """What it is called for programs, such as "overfitting"."""
    what: str
    evidence: str
    """In numbers."""
    do: str


@dataclass(frozen=True)
class RunRecord:
    """What a run left."""

    run: RunDirectory
    lines: Sequence[Line]
    """Of metrics.jsonl."""
    predicted: Mapping[str, Any]
    """plan.json."""
    measured: Mapping[str, Any]
    """report.json; empty where the run did not come to its end."""
    validation_bytes: int | None
    epochs: float | None
    """How often the training text was seen."""
    health: Sequence[Mapping[str, Any]] = ()
    """The lines of health.jsonl."""
    text: TextHealth | None = None
    """None where the prepared text is gone."""
    damage: Sequence[Finding] = ()
    """What is wrong with the files of the run."""
    skipped: Sequence[Mapping[str, Any]] = ()
    """The lines of skipped.jsonl: steps that made no update."""

    @property
    def total_steps(self) -> int | None:
        """Of the whole run, as far as was planned."""
        stretches = self.predicted.get("plan")
        last = stretches[-1] if isinstance(stretches, list) and stretches else None
        foreseen = last[1] if isinstance(last, list) and len(last) == 2 else self.predicted.get("steps")
        return foreseen if type(foreseen) is int else None

    @property
    def ngrams(self) -> Mapping[str, float]:
        """Bits per byte of models that count 1, 2 and 3 tokens; empty where the run did not come to its end."""
        counted = self.measured.get("ngrams")
        scores = {order: number(counted, order) for order in "123"} if isinstance(counted, dict) else {}
        found = {order: score for order, score in scores.items() if score is not None}
        return found if len(found) == 3 else {}

    @property
    def score(self) -> float | None:
        """Bits per byte of the finished run."""
        return number(self.measured, "bits_per_byte")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is none that can be read."""
    try:
        values = json.loads(path.read_bytes(), parse_constant=_refuse)
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def number(values: Mapping[str, Any], name: str) -> float | int | None:
    """A number in a file that may have been changed; None where it is none, or not finite, or too large for one."""
    value = values.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:  # an integer of hundreds of digits
        return None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
