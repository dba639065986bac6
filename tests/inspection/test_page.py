"""A page holds what it shows as text, runs only its own script, and asks nobody for anything."""

import pytest

from glassgpt.inspection.page import page

HOSTILE = "</script><script>document.title='ran'</script><img src=x onerror=\"document.title='ran'\">\u2028\x00"
SHOWS = "document.querySelector('p').append(make('b', {}, read('text')), String(new Uint8Array(read('raw'))[1]));"


def written(tmp_path, **changes):
    path = tmp_path / "page.html"
    parts = {"body": "<p></p>", "data": {"text": HOSTILE, "raw": b"\x01\xff"}, "scripts": SHOWS} | changes
    path.write_text(page("A <title>", **parts), encoding="utf-8")
    return path


@pytest.mark.thorough
def test_what_is_hostile_is_shown_and_not_run(tmp_path, browser):
    with browser.open(written(tmp_path)) as opened:
        assert opened.page.title() == "A <title>"
        assert opened.page.text_content("p") == HOSTILE + "255"
        opened.assert_clean()


@pytest.mark.thorough
def test_a_script_that_was_put_in_does_not_run(tmp_path, browser):
    with browser.open(written(tmp_path, body=f"<p></p>{HOSTILE}")) as opened:
        assert opened.page.title() == "A <title>"
        assert any("Content Security Policy" in error for error in opened.errors)


@pytest.mark.thorough
def test_a_page_that_asks_for_something_is_caught(tmp_path, browser):
    with browser.open(written(tmp_path, scripts="fetch('https://example.org/').catch(() => {});")) as opened:
        opened.page.wait_for_timeout(200)
        with pytest.raises(AssertionError):
            opened.assert_clean()
