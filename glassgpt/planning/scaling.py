"""The law by which the planner foresees a score, fitted to measured runs (`benchmarks/scaling.py`).

In bits per byte of the validation text over the n-gram score of the same text (`difficulty`):

    bpb / ngram = e + a N^-alpha + b D^-beta + (c (D / U)^gamma N^delta) exp(-kappa p) + eta p

N millions of parameters in the blocks, D megabytes trained on, U megabytes of training text, p the dropout rate. The
first three terms are those of Hoffmann et al. 2022; then comes what repeating a text costs, more for a large model,
less with dropout; and what dropout itself costs.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Law:
    """The constants of the law and what else was measured with them."""

    e: float
    a: float
    alpha: float
    b: float
    beta: float
    c: float
    gamma: float
    delta: float
    kappa: float
    eta: float
    bytes_per_token: dict[str, float]
    """Of English text, by tokenizer."""
    runs: int
    rms_error: float
    """Relative, of the fit."""

    def ratio(self, n: float, d: float, u: float, dropout: float) -> float:
        """Bits per byte as a share of the n-gram score."""
        repeated = self.c * (d / u) ** self.gamma * n**self.delta * 2.718281828459045 ** (-self.kappa * dropout)
        return self.e + self.a * n**-self.alpha + self.b * d**-self.beta + repeated + self.eta * dropout


@cache
def law() -> Law:
    """The fit that the package carries."""
    return Law(**json.loads(Path(__file__).with_name("scaling.json").read_text(encoding="utf-8")))
