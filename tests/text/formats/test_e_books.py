from format_files import FILES, epub, refusal, text_of, zipped


def test_a_book_of_libreoffice_is_read_paragraph_by_paragraph() -> None:
    paragraphs = text_of((FILES / "sample.epub").read_bytes(), "sample.epub").split("\n\n")
    assert paragraphs[0] == "Grüße aus dem Café"
    assert paragraphs[2] == "多言語: 世界, Ελλάδα, Привет, 🦊 and 👩\u200d🚀."
    assert paragraphs[3] == "one\ttwo\nthree"
    assert "The end." in paragraphs


def test_chapters_come_in_the_order_of_reading() -> None:
    assert text_of(epub({"zzz.xhtml": "<p>one</p>", "aaa.xhtml": "<p>two</p>"})) == "one\n\ntwo\n"


def test_contents_are_not_read_and_no_chapter_twice() -> None:
    package = """<!DOCTYPE package PUBLIC "p" "q"><package xmlns="p"><manifest>
        <item id="n" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>
        <item id="t" href="toc.xhtml" media-type="application/xhtml+xml"/>
        <item id="a" href="a%20b.xhtml#x" media-type="application/xhtml+xml"/>
        <item id="p" href="a.svg" media-type="image/svg+xml"/></manifest>
        <spine><itemref idref="n"/><itemref idref="t"/><itemref idref="a"/><itemref idref="a"/>
        <itemref idref="p"/></spine>
        <guide><reference type="toc" href="toc.xhtml"/></guide></package>"""
    pages = {"nav.xhtml": "<p>contents</p>", "toc.xhtml": "<p>contents</p>", "a b.xhtml": "<p>text</p>"}
    assert text_of(epub(pages, package)) == "text\n"


def test_the_encoding_of_a_chapter_is_what_it_declares() -> None:
    page = '<?xml version="1.0" encoding="iso-8859-1"?><html><body><p>Grüße</p></body></html>'.encode("latin-1")
    assert text_of(epub({"aaa.xhtml": page})) == "Grüße\n"


def test_invalid_utf8_in_a_chapter_is_refused_or_replaced() -> None:
    book = epub({"aaa.xhtml": b"<p>a\xffb</p>"})
    assert "byte 0xff at offset 4" in refusal(book)
    assert text_of(book, invalid_utf8="replace") == "a\ufffdb\n"


def test_a_locked_book_is_refused_and_hidden_fonts_are_none() -> None:
    def encrypted(algorithm: str) -> bytes:
        part = f'<encryption><EncryptionMethod Algorithm="{algorithm}"/></encryption>'
        return epub({"aaa.xhtml": "<p>text</p>"}, encryption=part)

    assert "DRM" in refusal(encrypted("http://www.w3.org/2001/04/xmlenc#aes128-cbc"))
    assert text_of(encrypted("http://www.idpf.org/2008/embedding")) == "text\n"


def test_a_damaged_book_is_refused_naming_the_part() -> None:
    assert "META-INF/container.xml" in refusal(zipped({"a": ""}), "a.epub")
    assert "names no package" in refusal(zipped({"META-INF/container.xml": "<a/>"}), "a.epub")
    assert "lists no chapters" in refusal(epub({}))
    outside = """<package><manifest><item id="a" href="../../../etc/passwd" media-type="text/html"/></manifest>
        <spine><itemref idref="a"/></spine></package>"""
    assert "etc/passwd is missing" in refusal(epub({}, outside))
