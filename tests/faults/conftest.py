"""Two tiers of the same tests, and the table of what they found.

`make test` runs each with few trials, `make faults` (`--full`) with as many as docs/reliability.md names, and prints
a table at its end: what was tried, how often, how often it went wrong, and how the negative control fared.
"""

from collections.abc import Callable

import pytest
import tiers
from tiers import Found, Tally

_FOUND = pytest.StashKey[list[Found]]()


@pytest.fixture(scope="session")
def amount() -> Callable[[int, int], int]:
    """The number of trials: the first in `make test`, the second in `make faults`."""
    return tiers.amount


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Tally:
    """Notes a line of the table, with the fields of Found; the test asserts by itself."""
    lines = request.config.stash.setdefault(_FOUND, [])
    return lambda *fields, **named: lines.append(Found(*fields, **named))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    lines = sorted(config.stash.get(_FOUND, []), key=lambda found: (found.promise, found.what))
    if not (lines and tiers.is_full()):
        return
    terminalreporter.section("promises")
    terminalreporter.line("| | what | trials | failures | negative control |\n|---|---|---|---|---|")
    for found in lines:
        cells = (found.promise, found.what, f"{found.trials:,}", f"{found.failures:,}", found.control)
        terminalreporter.line(f"| {' | '.join(cells)} |")
