"""A page holds what it shows as text, runs only its own script, and asks nobody for anything."""

import pytest

from glassgpt.inspection.page import is_page, page, refuse_target
from glassgpt.settings import InputError

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


def test_a_page_takes_the_place_of_nothing_but_a_page(tmp_path):
    refuse_target(written(tmp_path))
    refuse_target(tmp_path / "new.HTM")
    (tmp_path / "mine.html").write_text("<!doctype html>\n<title>mine</title>")
    (tmp_path / "bytes.html").write_bytes(bytes(range(256)))
    (tmp_path / "folder.html").mkdir()
    reasons = {
        "mine.html": "is no page of GlassGPT, so it is not replaced",
        "bytes.html": "is no page of GlassGPT",
        "folder.html": "is a folder: name a file in it",
        "model": r"let it end in \.html, such as model\.html",
        "missing/page.html": "no folder .*missing for page.html: make it",
        "mine.html/page.html": "no folder .*mine.html for page.html",
    }
    for name, why in reasons.items():
        with pytest.raises(InputError, match=why):
            refuse_target(tmp_path / name)


def test_what_a_page_shows_does_not_make_another_file_one(tmp_path):
    quoted = tmp_path / "quoted.html"
    quoted.write_text("x" * 5000 + page("A title", body="", data={}))
    assert not is_page(quoted)
