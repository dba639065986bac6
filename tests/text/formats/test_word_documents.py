from format_files import FILES, docx, refusal, text_of, word_xml, zipped


def test_a_document_of_libreoffice_is_read_as_it_looks() -> None:
    assert text_of((FILES / "sample.docx").read_bytes(), "sample.docx") == (
        "Grüße aus dem Café\n"
        "A paragraph with bold words, two  spaces, a\ttab and a\nbroken line.\n"
        "\n"
        "多言語: 世界, Ελλάδα, Привет, 🦊 and 👩\u200d🚀.\n"
        "one\ttwo\nthree\t\n"
        "Some inserted words, and no others.\n"
        "first point\nsecond point\n"
        "Before \nin a box\n"
        "The end. \n"
        "A note at the foot.\nA note at the end.\n"
    )


def run(text: str) -> str:
    return f"<w:r><w:t>{text}</w:t></w:r>"


def paragraph(*runs: str) -> str:
    return f"<w:p>{''.join(runs)}</w:p>"


def test_paragraphs_are_lines_and_empty_ones_stay() -> None:
    assert text_of(docx(paragraph(run("a"), run("b")) + paragraph() * 2 + paragraph(run("c")))) == "ab\n\n\nc\n"


def test_signs_that_are_elements_are_read_and_tab_stops_are_not() -> None:
    stops = "<w:pPr><w:tabs><w:tab w:val='left'/></w:tabs></w:pPr>"
    signs = "<w:r><w:tab/><w:t>a</w:t><w:br/><w:t>b</w:t><w:noBreakHyphen/><w:softHyphen/><w:cr/></w:r>"
    assert text_of(docx(paragraph(stops, signs, run("c")))) == "\ta\nb\u2011\nc\n"


def test_what_was_deleted_moved_away_or_is_an_instruction_is_left_out() -> None:
    deleted = f"<w:del><w:r><w:delText>x</w:delText></w:r></w:del><w:moveFrom>{run('y')}</w:moveFrom>"
    field = "<w:r><w:instrText>PAGE</w:instrText></w:r>"
    assert text_of(docx(paragraph(deleted, field, f"<w:ins>{run('kept')}</w:ins>"))) == "kept\n"


def test_a_deleted_paragraph_mark_joins_two_paragraphs() -> None:
    mark = "<w:pPr><w:rPr><w:del/></w:rPr></w:pPr>"
    assert text_of(docx(paragraph(mark, run("one ")) + paragraph(run("line")))) == "one line\n"


def test_of_two_alternatives_one_is_read() -> None:
    both = f"<mc:AlternateContent><mc:Choice>{run('new')}</mc:Choice><mc:Fallback>{run('old')}</mc:Fallback>"
    assert text_of(docx(paragraph(both + "</mc:AlternateContent>"))) == "new\n"


def test_a_box_of_text_is_lines_of_its_own() -> None:
    box = f"<w:r><w:txbxContent>{paragraph(run('box'))}</w:txbxContent></w:r>"
    assert text_of(docx(paragraph(run("before"), box, run("after")))) == "before\nbox\nafter\n"
    assert text_of(docx(paragraph(box, run("after")))) == "box\nafter\n"


def test_cells_stand_between_tabs_and_tables_nest() -> None:
    def table(*rows: list[str]) -> str:
        cells = ["".join(f"<w:tc>{cell}</w:tc>" for cell in row) for row in rows]
        return f"<w:tbl>{''.join(f'<w:tr>{row}</w:tr>' for row in cells)}</w:tbl>"

    a, b, empty = paragraph(run("a")), paragraph(run("b")), paragraph()
    assert text_of(docx(table([a, b], [empty, a + b]) + a)) == "a\tb\n\ta\nb\na\n"
    assert text_of(docx(table([table([a, b]) + empty, b]))) == "a\tb\n\tb\n"


def test_notes_follow_the_text_without_the_line_above_them() -> None:
    def note(kind: str, text: str) -> str:
        mark = "<w:r><w:footnoteRef/><w:tab/></w:r>"
        line, words = paragraph(run("---")), paragraph(mark, run(text))
        return f"<w:{kind} w:type='separator'>{line}</w:{kind}><w:{kind}>{words}</w:{kind}>"

    parts = {
        "footnotes": note("footnote", "foot"),
        "endnotes": note("endnote", "end"),
        "comments": paragraph(run("no")),
    }
    assert text_of(docx(paragraph(run("text")), **parts)) == "text\nfoot\nend\n"


def test_the_main_part_may_have_any_name() -> None:
    relations = '<Relationships><Relationship Type="x/officeDocument" Target="/w/main.xml"/></Relationships>'
    body = word_xml("document", paragraph(run("found")))
    assert text_of(zipped({"_rels/.rels": relations, "w/main.xml": body}), "a.DOCX") == "found\n"


def test_an_unusable_document_is_refused_naming_the_part() -> None:
    assert "word/document.xml is missing" in refusal(zipped({"a": ""}), "a.docx")
    assert "word/document.xml" in refusal(zipped({"word/document.xml": "<w:p>"}), "a.docx")
    assert "locked by a password" in refusal(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500), "a.docx")
    assert "end in .txt" in refusal(b"a plain text", "a.docx")
    bomb = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><x>&b;</x>'
    assert "declares entities" in refusal(zipped({"word/document.xml": bomb}), "a.docx")
    names = "".join(f"<a{number}/>" for number in range(60_000))
    assert "names" in refusal(zipped({"word/document.xml": f"<x>{names}</x>"}), "a.docx")
    spaces = "".join(f"<a xmlns:a{number}='b'/>" for number in range(60_000))
    assert "names" in refusal(zipped({"word/document.xml": f"<x>{spaces}</x>"}), "a.docx")
    attribute = f"<x a='{'y' * 20_000_000}'/>"
    assert "over 16 MB" in refusal(zipped({"word/document.xml": attribute}), "a.docx")
    assert "nests" in refusal(zipped({"word/document.xml": "<a>" * 100_000}), "a.docx")
