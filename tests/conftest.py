"""What the tests of several rooms share."""

import os
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the command line does, and before torch is imported

import pytest
from browser import browser as browser
from hypothesis import settings

from glassgpt.text.stories import write_stories


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="faults: as many trials as docs/reliability.md promises")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--full"):
        settings.register_profile("full")
        settings.load_profile("full")


@pytest.fixture(scope="session")
def story_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small text of synthetic stories, about 60 kB."""
    path = tmp_path_factory.mktemp("text") / "stories.txt"
    path.write_text("\n".join(write_stories(400, seed=1)), encoding="utf-8")
    return path
