"""A headless Chromium for the tests of pages."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


class Opened:
    """A page that is open, and what it did that it must not: errors in its console, requests out of its file."""

    def __init__(self, page, path: Path) -> None:
        self.page, self.errors, self.requests = page, [], []
        page.on("console", lambda said: self.errors.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda asked: self.requests.append(asked.url) if asked.url != path.as_uri() else None)
        page.goto(path.as_uri())

    def assert_clean(self) -> None:
        """Nothing went wrong and nothing left the file (`data:` stays in it)."""
        assert self.errors == []
        assert [url for url in self.requests if not url.startswith("data:")] == []


class Browser:
    """Opens files, each in a window of its own."""

    def __init__(self, chromium) -> None:
        self._chromium = chromium

    @contextmanager
    def open(self, path: Path, width: int = 1280, height: int = 900, dark: bool = False) -> Iterator[Opened]:
        scheme = "dark" if dark else "light"
        context = self._chromium.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        try:
            yield Opened(context.new_page(), path)
        finally:
            context.close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        assert not os.environ.get("CI"), "CI lacks Chromium"
        pytest.skip("needs Chromium (Debian: apt install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield Browser(chromium)
        chromium.close()
