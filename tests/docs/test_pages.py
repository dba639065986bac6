"""The pages that the README offers to try open without a network and without a complaint, and the model writes."""

from pathlib import Path

import pytest

PAGES = sorted((Path(__file__).parents[2] / "docs" / "pages").glob("*.html"))

pytestmark = pytest.mark.thorough


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_page_of_the_readme_opens_and_asks_nobody(path, browser):
    with browser.open(path) as opened:
        assert len(opened.page.text_content("body")) > 500
        opened.assert_clean()


def test_the_model_of_the_readme_writes(browser):
    path = next(path for path in PAGES if path.stem == "model")
    with browser.open(path) as opened:
        given = opened.page.locator(".piece.given").count()
        opened.page.click("#write")
        opened.page.wait_for_function(f"document.querySelectorAll('.paper .piece').length > {given + 10}")
        opened.assert_clean()
