"""What a score looks like: samples of writing by models that were trained here and measured.

A score means little by itself, since texts are not equally hard: 1.5 bits per byte is poor for a novel and out of
reach for verse. So samples are compared by their share of the n-gram score (`difficulty`) of their text.
`writing_samples.json` lists them; how each came to be is told in `benchmarks/writing_samples.py`.
"""

import json
import math
from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True)
class WritingSample:
    """What a model wrote whose validation text cost it `bits_per_byte`."""

    source: str
    """The text that it was trained on."""
    ngram: float
    """Bits per byte of that text under an n-gram model."""
    repetition: float
    """Of that text, as `choose.TextFacts` has it."""
    bits_per_byte: float
    text: str

    @property
    def share(self) -> float:
        """Of the n-gram score."""
        return self.bits_per_byte / self.ngram


def writing_samples() -> list[WritingSample]:
    """All that are recorded, by text, best score first."""
    listed = json.loads(files("glassgpt.planning").joinpath("writing_samples.json").read_text(encoding="utf-8"))
    return sorted((WritingSample(**entry) for entry in listed), key=lambda sample: (sample.source, sample.share))


FAR = 3
"""How many times harder a sample's text may be, by its n-gram score, and still tell something of another."""


def nearest(bits_per_byte: float, ngram: float, repetition: float) -> WritingSample | None:
    """The sample that comes closest to a score on a text: of the text most like it, the one most as good.

    None where that text is so much harder or easier that it would mislead.
    """
    samples = writing_samples()
    alike = min(abs(sample.repetition - repetition) for sample in samples)
    of_that = [sample for sample in samples if abs(sample.repetition - repetition) == alike]
    found = min(of_that, key=lambda sample: abs(math.log(sample.share * ngram / bits_per_byte)))
    return found if 1 / FAR < found.ngram / ngram < FAR else None
