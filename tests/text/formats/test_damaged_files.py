"""Whatever the bytes: text or a reason, never another exception."""

import contextlib
import gzip
import io
from pathlib import Path

import pytest
from format_files import FILES, Counting, docx, epub, odt
from hypothesis import given, settings
from hypothesis import strategies as st

from glassgpt.text.formats import FormatOptions, NotText, read_file

SAMPLES = {path.suffix: path.read_bytes() for path in FILES.iterdir()} | {
    ".jsonl": '{"text": "é", "n": [1, {"a": null}]}\n'.encode() * 5,
    ".gz": gzip.compress("Grüße".encode() * 50),
    ".txt": "Grüße, 世界 🦊".encode(),
}
BEGINNINGS = [b"", b"PK\3\4", b"\x1f\x8b\x08", b"\xff\xfe"]
XML = {
    ".docx": docx,
    ".odt": odt,
    ".epub": lambda body: epub({"aaa.xhtml": body}),
}
WORD = ("w:p", "w:r", "w:t", "w:tbl", "w:tr", "w:tc", "w:del", "w:pPr", "w:rPr", "w:footnote", "mc:Fallback")
OPEN = ("text:p", "text:s", "text:note", "text:note-body", "table:table-row", "table:table-cell", "o:annotation")
PAGE = ("p", "br", "td", "tr", "table", "pre", "script", "a")
TAGS = {".docx": WORD, ".odt": OPEN, ".epub": PAGE}


def attempt(data: bytes, name: str, **options: str) -> None:
    with contextlib.suppress(NotText):
        read_file(io.BytesIO(data), name, Counting(), FormatOptions(**options))


@pytest.mark.parametrize("suffix", sorted(SAMPLES))
@settings(deadline=None, max_examples=150)
@given(st.data())
def test_a_changed_file_gives_text_or_a_reason(suffix: str, data: st.DataObject) -> None:
    changed = bytearray(SAMPLES[suffix])
    for _ in range(data.draw(st.integers(1, 8))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.just(len(changed)), st.integers(0, len(changed))))
    attempt(bytes(changed[:cut]), f"a{suffix}", invalid_utf8=data.draw(st.sampled_from(["refuse", "replace"])))


@settings(deadline=None)
@given(
    st.binary(max_size=2000),
    st.sampled_from([*SAMPLES, ""]),
    st.sampled_from([b"", b"PK\3\4", b"\x1f\x8b\x08", b"\xff\xfe"]),
)
def test_any_bytes_give_text_or_a_reason(data: bytes, suffix: str, beginning: bytes) -> None:
    attempt(beginning + data, f"a{suffix}")


def body(tags: tuple[str, ...]) -> st.SearchStrategy[str]:
    words = st.sampled_from(["", " ", "a", "b c", "\n", "é"])
    element = "<{0}>{1}</{0}>".format
    return st.recursive(words, lambda inside: st.builds(element, st.sampled_from(tags), st.lists(inside).map("".join)))


@pytest.mark.thorough
@pytest.mark.parametrize("suffix", XML)
@settings(deadline=None)
@given(data=st.data())
def test_elements_in_any_order_give_text(suffix: str, data: st.DataObject) -> None:
    packed = XML[suffix](data.draw(body(TAGS[suffix])))
    read_file(io.BytesIO(packed), "-", Counting(), FormatOptions())


def test_the_samples_are_read() -> None:
    for suffix, data in SAMPLES.items():
        sink = Counting()
        read_file(io.BytesIO(data), str(Path("a").with_suffix(suffix)), sink, FormatOptions())
        assert sink.n_characters > 4
