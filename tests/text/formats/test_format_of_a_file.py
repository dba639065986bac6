import gzip
import io
import subprocess
import sys
import zipfile

import pytest
from format_files import TEXT, Remembering, W, docx, epub, odt, read, refusal, text_of, word_xml, zipped

from glassgpt.text.formats import FormatOptions, read_file

N_TIMES = 220
P = "<w:p><w:r><w:t>a</w:t></w:r></w:p>"


def test_a_document_is_recognised_under_any_name() -> None:
    pages = epub({"aaa.xhtml": "<p>a</p>"})
    for data, form in ((docx(P), "docx"), (odt("<text:p>a</text:p>"), "odt"), (pages, "epub")):
        for name in ("-", f"x.{form.upper()}", "x.bin", "x.txt"):
            documents, facts = read(data, name)
            assert documents == ["a\n"]
            assert facts.format == form


def test_a_compressed_file_is_read_by_its_inner_name() -> None:
    for name, data, text in (
        ("a.txt.gz", b"<p>a", "<p>a"),
        ("a.html.GZ", b"<p>a", "a\n"),
        ("a.jsonl.gz", b'{"text": "a"}', "a"),
        ("-", b"abc", "abc"),
    ):
        documents, facts = read(gzip.compress(data), name)
        assert documents == [text]
        assert facts.format.endswith(".gz")
    cyrillic = "Вечером дети возвращались домой усталые и счастливые.\n" * 50
    assert text_of(gzip.compress(cyrillic.encode("koi8-r")), "a.gz") == cyrillic


def test_a_compressed_file_that_is_damaged_is_refused() -> None:
    data = gzip.compress(bytes(range(32, 127)) * 100_000)
    assert "damaged gzip" in refusal(data[: len(data) // 2], "a.gz")
    assert "damaged gzip" in refusal(data[:-5] + b"x" + data[-4:], "a.gz")
    assert "damaged gzip" in refusal(b"plain", "a.gz")
    assert "twice" in refusal(gzip.compress(data), "a.gz.gz")
    assert "unpack it first" in refusal(gzip.compress(docx(P)), "a.docx.gz")


@pytest.mark.parametrize(
    ("data", "name", "words"),
    [
        (b"%PDF-1.7\n\xe2\xe3", "a.pdf", "is a PDF document; make text of it first (pdftotext FILE"),
        (b"%PDF-1.7\n", "-", "PDF"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0", "a.doc", "old Word document"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0", "a.xls", "spreadsheet"),
        (b"{\\rtf1 a}", "a.rtf", "Rich Text"),
        (zipped({"xl/workbook.xml": ""}), "a.xlsx", "spreadsheet"),
        (zipped({"ppt/slides.xml": ""}), "a.pptx", "presentation"),
        (zipped({"Index/Document.iwa": ""}), "a.pages", "Pages"),
        (zipped({"mimetype": "application/vnd.oasis.opendocument.spreadsheet"}), "a.ods", "spreadsheet"),
        (zipped({"a.txt": "text"}), "a.zip", "is an archive; unpack it"),
        (bytes(60) + b"BOOKMOBI", "a.mobi", "Kindle"),
        (bytes(257) + b"ustar", "a.tar", "archive"),
        (b"\xfd7zXZ\0", "a.xz", "unxz"),
        (b"\x28\xb5\x2f\xfd", "a.zst", "unzstd"),
        (b"BZh91AY&SY", "a.bz2", "bunzip2"),
        (b"\x89PNG\r\n\x1a\n\0", "a.png", "picture"),
        (b"\xff\xd8\xff\xe0", "-", "picture"),
        (b"ID3\0", "a.mp3", "recording"),
    ],
)
def test_another_format_is_refused_with_what_to_do(data: bytes, name: str, words: str) -> None:
    assert words in refusal(data, name)
    assert refusal(data, name, invalid_utf8="replace")


def test_a_text_under_the_name_of_another_format_is_read() -> None:
    assert text_of(b"a plain text", "read.doc") == "a plain text"


def test_what_a_sink_raises_reaches_the_caller() -> None:
    class Full(Remembering):
        def write(self, text: str) -> None:
            raise OSError(28, "No space left on device")

    data = gzip.compress(b"text")
    for file in (b"text", data, docx(P), odt("<text:p>a</text:p>"), epub({"aaa.xhtml": "<p>a"})):
        with pytest.raises(OSError, match="No space"):
            read_file(io.BytesIO(file), "-", Full(), FormatOptions())


def test_a_part_that_is_locked_or_packed_unusually_is_refused() -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("word/document.xml", word_xml("document", P))
    assert "unusual way" in refusal(packed.getvalue(), "a.docx")
    data = bytearray(docx(P))
    data[data.index(b"PK\1\2") + 8] |= 1
    assert "locked by a password" in refusal(bytes(data), "a.docx")


@pytest.mark.thorough
@pytest.mark.parametrize("form", ["docx", "odt", "epub", "html.gz", "txt.gz"])
def test_a_large_document_is_read_in_little_memory(form: str) -> None:
    program = f"""
import sys, tracemalloc
sys.path = {sys.path!r}
from test_format_of_a_file import large
from format_files import Counting
from glassgpt.text.formats import FormatOptions, read_file
file, sink = large({form!r}), Counting()
tracemalloc.start()
read_file(file, 'large.{form}', sink, FormatOptions())
print(sink.n_characters, tracemalloc.get_traced_memory()[1], sink.longest)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    n_characters, peak, longest = map(int, done.stdout.split())
    assert n_characters > 150_000_000
    assert peak < 32_000_000
    assert longest < 4_000_000


def large(form: str) -> io.BytesIO:
    """A document of 200 MB, almost all of it one line, packed into a few hundred kB."""
    words = b"some words and more of them, again and again; " * 20_000
    before, after = {
        "docx": (f"<w:d xmlns:w='{W}'><w:p><w:r><w:t>", "</w:t></w:r></w:p></w:d>"),
        "odt": (f"<d xmlns:text='{TEXT}'><text:p>", "</text:p></d>"),
    }.get(form, ("", ""))
    packed = io.BytesIO()
    if form.endswith("gz"):
        with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1) as file:
            file.writelines([words] * N_TIMES)
        packed.seek(0)
        return packed
    if form == "epub":
        packed.write(epub({"aaa.xhtml": ""}).replace(b"OPS/aaa.xhtml", b"OPS/xxx.xhtml"))
    part = {"docx": "word/document.xml", "odt": "content.xml", "epub": "OPS/aaa.xhtml"}[form]
    with (
        zipfile.ZipFile(packed, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(part, "w") as file,
    ):
        for piece in (before.encode(), *[words] * N_TIMES, after.encode()):
            file.write(piece)
    packed.seek(0)
    return packed
