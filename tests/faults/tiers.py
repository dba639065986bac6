"""Which tier this is: `make test`, or `make faults` (`--full`), which is a profile of hypothesis too."""

from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import settings


def is_full() -> bool:
    return settings.get_current_profile_name() == "full"


def amount(short: int, full: int) -> int:
    """The number of trials: the first in `make test`, the second in `make faults`."""
    return full if is_full() else short


@dataclass(frozen=True)
class Found:
    """A line of the table."""

    promise: str
    """Such as R1."""
    what: str
    trials: int
    failures: int
    control: str
    """What was left out to see the test fail, and how often it did."""


Tally = Callable[..., None]
