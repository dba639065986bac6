"""Two tiers of the same tests, and the table of what they found.

`make test` runs each with few trials, `make faults` (`--full`) with as many as docs/reliability.md names, and prints
a table at its end: what was tried, how often, how often it went wrong, and how the negative control fared.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pytest


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
_FOUND = pytest.StashKey[list[Found]]()


@pytest.fixture(scope="session")
def amount(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """The number of trials: the first in `make test`, the second in `make faults`."""
    return lambda short, full: full if request.config.getoption("--full") else short


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Tally:
    """Notes a line of the table, with the fields of Found; the test asserts by itself."""
    lines = request.config.stash.setdefault(_FOUND, [])
    return lambda *fields, **named: lines.append(Found(*fields, **named))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    lines = sorted(config.stash.get(_FOUND, []), key=lambda found: (found.promise, found.what))
    if not (lines and config.getoption("--full")):
        return
    terminalreporter.section("promises")
    terminalreporter.line("| | what | trials | failures | negative control |\n|---|---|---|---|---|")
    for found in lines:
        cells = (found.promise, found.what, f"{found.trials:,}", f"{found.failures:,}", found.control)
        terminalreporter.line(f"| {' | '.join(cells)} |")
