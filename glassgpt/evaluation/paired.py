"""Is one setting better than another? Runs with equal seeds in pairs, and Student's t test of their differences.

A seed makes the first weights, the order of the text and dropout the same for both runs of a pair, so what they have
in common cancels in the difference and far fewer runs are needed than for two averages (Student 1908; for language
models Bouthillier et al. 2021, "Accounting for Variance in Machine Learning Benchmarks").

The 95 % interval is for reading. The verdict asks for more, p below 0.01: at 0.05 one comparison in 20 of equals
would name a winner, so that a series of 20 of them would hold two or more false verdicts in 26 % of cases; at 0.01
it does in 2 %.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

INTERVAL = 0.95
FALSE_VERDICTS = 0.01
"""How often two settings that are equally good get a verdict other than "cannot tell"."""

Verdict = Literal["better", "worse", "cannot tell"]


@dataclass(frozen=True)
class PairedDifference:
    """What a variant changes, in bits per byte: below 0 is better."""

    differences: list[float]
    """Variant minus baseline, a seed each."""
    mean: float
    low: float
    high: float
    """The interval that holds the true mean with probability 0.95."""
    p_value: float
    """How likely equals are to differ this much or more, in either direction."""
    verdict: Verdict


def paired_difference(baseline: Sequence[float], variant: Sequence[float], comparisons: int = 1) -> PairedDifference:
    """Compare scores of equal seeds, two or more. The differences are taken to be normally distributed.

    Where several variants are compared with one baseline, `comparisons` is their number: interval and p value are
    then corrected (Bonferroni), so that 0.95 and 0.01 hold for all of them together.
    """
    differences = [b - a for a, b in zip(baseline, variant, strict=True)]
    n = len(differences)
    if n < 2:
        raise ValueError(f"{n} pair of runs has no spread: it takes two or more")
    mean = statistics.fmean(differences)
    error = statistics.stdev(differences) / math.sqrt(n)
    half = student_t_quantile(1 - (1 - INTERVAL) / comparisons, n - 1) * error
    if error > 0:
        p_value = min(1.0, comparisons * (1 - student_t_within(abs(mean) / error, n - 1)))
    else:
        p_value = 1.0 if mean == 0 else 0.0
    verdict: Verdict = "cannot tell"
    if p_value < FALSE_VERDICTS:
        verdict = "better" if mean < 0 else "worse"
    return PairedDifference(differences, mean, mean - half, mean + half, p_value, verdict)


def student_t_within(t: float, degrees: int) -> float:
    """P(|T| < t) of Student's t with a whole number of degrees of freedom, exactly.

    The finite sums of Abramowitz & Stegun (1964), 26.7.3 and 26.7.4, in the angle whose tangent is t / sqrt(degrees).
    """
    angle = math.atan(t / math.sqrt(degrees))
    cos_squared = math.cos(angle) ** 2
    term = math.sin(angle) * (math.cos(angle) if degrees % 2 else 1.0)
    total = 0.0
    for k in range(1 + degrees % 2, degrees, 2):  # odd: cos + 2/3 cos^3 + ...; even: 1 + 1/2 cos^2 + ...
        total += term
        term *= k / (k + 1) * cos_squared
    return (angle + total) * 2 / math.pi if degrees % 2 else total


def student_t_quantile(probability: float, degrees: int) -> float:
    """The t with P(|T| < t) = `probability`, by bisection of its angle."""
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        if student_t_within(math.sqrt(degrees) * math.tan(middle), degrees) < probability:
            low = middle
        else:
            high = middle
    return math.sqrt(degrees) * math.tan(low)
