import pytest
from format_files import FILES, Counting, text_of
from hypothesis import given
from hypothesis import strategies as st

from glassgpt.text.formats.html import Page, read_html
from glassgpt.text.formats.layout import Layout


def page(*blocks: str) -> str:
    pieces: list[str] = []
    layout = Layout(pieces.append)
    read_html(blocks, layout)
    layout.end()
    return "".join(pieces)


def test_a_page_is_read_as_it_looks() -> None:
    assert text_of((FILES / "sample.html").read_bytes(), "sample.html") == (
        "Grüße aus dem Café\n\n"
        "A paragraph with bold, italic and a link.\n\n\n"
        "多言語: 世界, Ελλάδα, Привет, 🦊 and 👩\u200d🚀.\n\n"
        "one\ttwo\nthree\tfour\n\n"
        "first point\n\nsecond point\n\n"
        "The end.\n"
    )


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("a<p>b<div>c</div>d", "a\n\nb\n\nc\n\nd"),
        ("a <b> b</b>\n\t<i>c</i>", "a b c"),
        ("a<br>b<br/>\n<br>c", "a\nb\n\nc"),
        ("<ul><li>a<li>b</ul>c", "a\nb\n\nc"),
        ("<table><tr><td>a<td>b<tr><td><td>c</table>d", "a\tb\n\tc\n\nd"),
        ("<table><tr><td>a<td></table>b", "a\n\nb"),
        ("<pre>\n a\n\n  b\n</pre>c", " a\n\n  b\n\nc"),
        ("<p>&nbsp;</p><p>&nbsp; a&nbsp;b</p>", "a\xa0b"),
        ("&eacute;&#233;&#xe9;&amp;&nosuch; & &lt;p>", "ééé&&nosuch; & <p>"),
        ("a < b <3 <> c", "a < b <3 <> c"),
        ("a<!-- <p> -- > -->b<!-->c<!doctype x>d<?php x ?>e</>f", "abcdef"),
        ("<script>if (a<b) '</p>'</script>a<style>x</style>b<title/>c", "abc"),
        ("<noscript><p>a</noscript><template>b</template>c", "c"),
        ("<a title='<p>' href=x=\"y>z</a>", "z"),
        ("<![CDATA[<p>]]>a", "<p>a"),
        ("<plaintext><p>a", "<p>a"),
        ("a<script>b", "a"),
        ("a<p title='b", "a"),
        ("a<!-- b", "a"),
        ("a&amp", "a&"),
        (f"a&#{'9' * 30};b", "a\ufffdb"),
    ],
)
def test_markup_becomes_text(markup: str, text: str) -> None:
    assert page(markup) == f"{text}\n"
    assert page(*markup) == f"{text}\n"  # a block a character


def test_a_number_of_too_many_digits_is_no_error() -> None:
    for number in ("9" * 5000, "x" + "9" * 5000):
        assert page(f"a&#{number};b") == "a\ufffdb\n"
        assert page(*f"a&#{number};b").endswith("b\n")


PIECES = ["<", ">", "&", "</", "<!--", "-->", "<p>", "<pre>", "</pre>", "<td>", "<tr>", "<br>", "<script>", "</script>"]
PIECES += ["<table>", "</table>", "='", "'", '="', "&amp;", "&#9", "]]>", "<![CDATA[", " ", "\n", "a", "b c", "\xa0"]
MARKUP = st.lists(st.sampled_from(PIECES), max_size=30).map("".join)


@given(MARKUP, st.data())
def test_where_a_block_ends_changes_nothing(markup: str, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(markup)))
    assert page(markup[:cut], markup[cut:]) == page(markup)


@pytest.mark.parametrize("unclosed", ["<!--", "<script>", "<p title='", "<p title=", "<p ", "<pre>", "&", "<" * 9])
def test_nothing_unclosed_is_kept_in_memory(unclosed: str) -> None:
    sink = Counting()
    reader = Page(Layout(sink.write))
    reader.feed(unclosed)
    for _ in range(100):
        reader.feed("x" * 1000)
    assert len(reader.rest) < 100


@pytest.mark.parametrize(
    ("declaration", "encoding"),
    [
        ('<meta charset="iso-8859-1">', "cp1252"),
        ('<meta http-equiv=Content-Type content="text/html; charset=windows-1251">', "cp1251"),
        ("<meta charset=gb2312>", "gb18030"),
        ("<meta charset=nonsense>", "utf-8"),
        ("<meta charset=utf-16>", "utf-8"),
        ("<meta charset=hex>", "utf-8"),
    ],
)
def test_the_encoding_is_what_the_page_declares(declaration: str, encoding: str) -> None:
    word = {"cp1252": "„Grüße“", "cp1251": "Привет", "gb18030": "世界", "utf-8": "Grüße"}[encoding]
    assert text_of(f"{declaration}<p>{word}".encode(encoding), "a.html") == f"{word}\n"


def test_a_page_without_a_name_is_recognised() -> None:
    assert text_of(b"\n<!DOCTYPE html><p>a") == "a\n"
    assert text_of(b"<p>a") == "<p>a"
