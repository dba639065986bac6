"""What is looked at to judge a run, and what is said of it."""

import json
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

    @property
    def total_steps(self) -> int | None:
        """Of the whole run, as far as was planned."""
        return self.predicted["plan"][-1][1] if self.predicted.get("plan") else self.predicted.get("steps")

    @property
    def ngrams(self) -> Mapping[str, float]:
        """Bits per byte of models that count 1, 2 and 3 tokens; empty where the run did not come to its end."""
        counted = self.measured.get("ngrams")
        good = isinstance(counted, dict) and all(isinstance(counted.get(order), float) for order in "123")
        return counted if good else {}

    @property
    def score(self) -> float | None:
        """Bits per byte of the finished run."""
        return self.measured.get("bits_per_byte")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is none that can be read."""
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}
