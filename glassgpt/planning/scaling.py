"""The law by which the planner foresees a score, fitted to measured runs (`benchmarks/scaling.py`).

In bits per byte of the validation text, for a text whose difficulty (`difficulty`) is G under an n-gram model and Z
deflated:

    bpb = G^g Z^z (e + a t^r N^-alpha + b t^s D^-beta + c t^q (D / U)^gamma (N / U)^delta exp(-kappa p) + eta p)

N millions of parameters in the blocks, D megabytes trained on, U megabytes of training text, t bytes a token, p the
dropout rate. The first three terms are those of Hoffmann et al. 2022; then comes what repeating a text costs, more for
a model that is large for the text, less with dropout; and what dropout itself costs.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from glassgpt.planning.difficulty import Difficulty


@dataclass(frozen=True, kw_only=True)
class Law:
    """The constants of the law and what else was measured with them."""

    g: float
    z: float
    e: float
    a: float
    r: float
    alpha: float
    b: float
    s: float
    beta: float
    c: float
    q: float
    gamma: float
    delta: float
    kappa: float
    eta: float
    bytes_per_token: dict[str, float]
    """Of the texts it was fitted on, by tokenizer."""
    runs: int
    rms_error: float
    """Relative, of the fit."""

    def bits_per_byte(self, text: Difficulty, n: float, d: float, u: float, t: float, dropout: float) -> float:
        """What a model scores; the letters are those of the formula. Arrays and tensors will do as well as numbers."""
        softened = 2.718281828459045 ** (-self.kappa * dropout)
        repeated = self.c * t**self.q * (d / u) ** self.gamma * (n / u) ** self.delta * softened
        learned = self.e + self.a * t**self.r * n**-self.alpha + self.b * t**self.s * d**-self.beta
        return text.ngram**self.g * text.deflated**self.z * (learned + repeated + self.eta * dropout)


@cache
def law() -> Law:
    """The fit that the package carries."""
    return Law(**json.loads(Path(__file__).with_name("scaling.json").read_text(encoding="utf-8")))
