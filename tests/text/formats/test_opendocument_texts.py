from format_files import FILES, odt, refusal, text_of, zipped


def test_a_document_of_libreoffice_is_read_as_it_looks() -> None:
    assert text_of((FILES / "sample.odt").read_bytes(), "sample.odt") == (
        "Grüße aus dem Café\n"
        "A paragraph with bold words, two  spaces, a\ttab and a\nbroken line.\n"
        "\n"
        "多言語: 世界, Ελλάδα, Привет, 🦊 and 👩\u200d🚀.\n"
        "one\ttwo\nthree\t\n"
        "Some inserted words, and no others.\n"
        "first point\nsecond point\n"
        "Before\nin a box\n"
        "The end.\n"
        "A note at the foot.\nA note at the end.\n"
    )


def test_white_space_collapses_and_spaces_that_are_elements_stay() -> None:
    body = "<text:p> a \n <text:span> b</text:span><text:s text:c='3'/>c<text:tab/>d<text:line-break/>e </text:p>"
    assert text_of(odt(body + "<text:h/><text:p>f</text:p>")) == "a b   c\td\ne\n\nf\n"


def test_a_count_of_spaces_that_lies_is_capped() -> None:
    assert len(text_of(odt("<text:p>a<text:s text:c='99999999999'/>b</text:p>"))) < 20_000
    assert text_of(odt("<text:p>a<text:s text:c='x'/>b</text:p>")) == "a b\n"


def test_a_locked_document_is_refused() -> None:
    manifest = '<m:manifest xmlns:m="m"><m:file-entry><m:encryption-data/></m:file-entry></m:manifest>'
    assert "locked by a password" in refusal(odt("", **{"META-INF/manifest.xml": manifest}))


def test_a_document_without_content_is_refused_naming_the_part() -> None:
    assert "content.xml is missing" in refusal(zipped({"a": ""}), "a.odt")
