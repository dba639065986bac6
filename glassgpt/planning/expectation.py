"""What a score looks like: samples of writing by models that were trained here and measured.

`writing_samples.json` lists them; how each came to be is told in `benchmarks/writing_samples.py`.
"""

import json
from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True)
class WritingSample:
    """What a model wrote whose validation text cost it `bits_per_byte`."""

    bits_per_byte: float
    text: str


def writing_samples() -> list[WritingSample]:
    """All that are recorded, best score first."""
    listed = json.loads(files("glassgpt.planning").joinpath("writing_samples.json").read_text(encoding="utf-8"))
    return sorted((WritingSample(**entry) for entry in listed), key=lambda sample: sample.bits_per_byte)


def nearest(bits_per_byte: float) -> WritingSample:
    """The sample whose score is closest."""
    return min(writing_samples(), key=lambda sample: abs(sample.bits_per_byte - bits_per_byte))
