import io
import os
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

import pytest

from glassgpt.settings import InputError
from glassgpt.text.documents import Document, Reading, read_documents, size_of
from glassgpt.text.pydoc import read_pydoc


def read(*sources: object, **options: object) -> Reading:
    return read_documents([str(source) for source in sources], **options)


def refusal(*sources: object, **options: object) -> str:
    """The one line with which the sources are refused."""
    with pytest.raises(InputError) as refused:
        read(*sources, **options)
    message = str(refused.value)
    assert "\n" not in message
    return message


def names(reading: Reading) -> list[str]:
    return [Path(document.name).name for document in reading.documents]


def reasons(reading: Reading) -> dict[str, str]:
    return {Path(path).name: reason for path, reason in reading.skipped}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with every sort of thing in it."""
    (tmp_path / "b.txt").write_text("bee", encoding="utf-8")
    (tmp_path / "a.md").write_text("ay", encoding="utf-8")
    (tmp_path / "empty.txt").write_bytes(b" \n")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\0\0")
    (tmp_path / "latin.txt").write_bytes("café".encode("latin-1"))
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "c").write_text("sea", encoding="utf-8")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_text("hidden", encoding="utf-8")
    return tmp_path


def test_a_file_of_any_suffix_is_one_document(tmp_path: Path) -> None:
    path = tmp_path / "notes.anything"
    path.write_text("Grüße, 世界", encoding="utf-8")
    assert read(path) == Reading([Document(str(path), "Grüße, 世界")], [], 0)


def test_the_order_of_the_sources_is_kept(folder: Path) -> None:
    assert names(read(folder / "b.txt", folder / "a.md")) == ["b.txt", "a.md"]


def test_byte_order_mark_and_foreign_line_ends_are_normalised(tmp_path: Path) -> None:
    path = tmp_path / "windows.txt"
    path.write_bytes("\ufeffone\r\ntwo\rthree\n".encode())
    assert read(path).documents[0].text == "one\ntwo\nthree\n"


def test_a_folder_is_read_sorted_and_reports_what_it_skips(folder: Path) -> None:
    reading = read(folder)
    assert names(reading) == ["a.md", "b.txt", "c"]
    assert reasons(reading).keys() == {"empty.txt", "picture.png", "latin.txt", ".git"}
    assert "binary" in reasons(reading)["picture.png"]
    assert "offset 3" in reasons(reading)["latin.txt"]


def test_a_pattern_that_the_shell_left_alone_is_expanded(folder: Path) -> None:
    assert names(read(folder / "*.txt")) == ["b.txt"]
    assert names(read(folder / "**" / "c")) == ["c"]
    assert names(read(folder / "*")) == ["a.md", "b.txt", "c"]


def test_a_file_whose_name_looks_like_a_pattern_is_read(tmp_path: Path) -> None:
    (tmp_path / "chapter[1].txt").write_text("one", encoding="utf-8")
    assert names(read(tmp_path / "chapter[1].txt")) == ["chapter[1].txt"]


def test_no_file_is_read_twice(folder: Path) -> None:
    reading = read(folder / "b.txt", folder, folder)
    assert names(reading) == ["b.txt", "a.md", "c"]
    assert reasons(reading)["b.txt"] == "was read already"


def test_standard_input_is_a_document() -> None:
    assert read("-", stdin=io.BytesIO(b"from a pipe\r\n")).documents == [Document("-", "from a pipe\n")]


def test_the_real_standard_input_is_read_by_default() -> None:
    program = "from glassgpt.text.documents import read_documents as r; print(r(['-']).documents[0].text)"
    done = subprocess.run([sys.executable, "-c", program], input=b"piped", capture_output=True, check=True)
    assert done.stdout.split() == [b"piped"]


def test_invalid_utf8_can_be_replaced_and_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "damaged.txt"
    path.write_bytes("a\ufffdb".encode() + b"\xff\xfe c \xe4\xb8")
    reading = read(path, invalid_utf8="replace")
    assert reading.documents[0].text == "a\ufffdb\ufffd\ufffd c \ufffd"
    assert reading.n_replaced == 3


@pytest.mark.parametrize(
    ("content", "name", "words"),
    [
        (b"", "a.txt", "holds no text"),
        (b" \r\n\t", "a.txt", "holds no text"),
        (b"\xef\xbb\xbf", "a.txt", "holds no text"),
        (b"text\0text", "a.txt", "zero byte at offset 4"),
        (b"ab\xff", "a.txt", "byte 0xff at offset 2"),
        (b"\xef\xbb\xbfab\xff", "a.txt", "byte 0xff at offset 5"),
        ("text".encode("utf-16"), "a.txt", "UTF-16"),
        (b"%PDF-1.7\n\xe2\xe3", "a.pdf", "PDF document"),
        (b"PK\x03\x04\0\0", "a.docx", "Word document"),
        (b"\x1f\x8b\x08\0", "a.gz", "compressed"),
    ],
)
def test_a_file_that_is_no_text_is_refused_with_the_reason(
    tmp_path: Path, content: bytes, name: str, words: str
) -> None:
    (tmp_path / name).write_bytes(content)
    message = refusal(tmp_path / name)
    assert words in message
    assert name in message


def test_another_format_is_refused_even_where_invalid_bytes_would_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.7\n\xe2\xe3")
    assert "plain text" in refusal(tmp_path / "a.pdf", invalid_utf8="replace")


def test_a_missing_file_is_answered_with_the_nearest_name(folder: Path) -> None:
    (folder / "shakespeare.txt").write_text("To be", encoding="utf-8")
    assert str(folder / "shakespeare.txt") in refusal(folder / "shakespear.txt")
    assert "does not exist either" in refusal(folder / "nowhere" / "a.txt")
    assert "there is no file" in refusal(folder / ("x" * 5000))


def test_nothing_to_read_is_refused(tmp_path: Path) -> None:
    assert "no text was named" in refusal()
    assert "folder" in refusal(tmp_path)
    assert "pattern" in refusal(tmp_path / "*.txt")
    (tmp_path / "picture.png").write_bytes(b"\0")
    assert "picture.png is binary" in refusal(tmp_path)
    assert "standard input holds no text" in refusal("-", stdin=io.BytesIO(b""))


def links_work(folder: Path) -> bool:
    try:
        (folder / "link").symlink_to(folder / "target")
    except OSError:
        return False
    (folder / "link").unlink()
    return True


def test_links_in_a_circle_end(folder: Path) -> None:
    if not links_work(folder):
        pytest.skip("this system makes no links")
    (folder / "inside" / "up").symlink_to(folder, target_is_directory=True)
    (folder / "itself").symlink_to(folder / "itself")
    (folder / "twin.txt").symlink_to(folder / "b.txt")
    reading = read(folder)
    assert names(reading) == ["a.md", "b.txt", "c"]
    assert reasons(reading)["up"] == "links to a folder that was read already"
    assert "cannot be read" in reasons(reading)["itself"]
    assert "cannot read" in refusal(folder / "itself")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_a_pipe_in_a_folder_is_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    assert reasons(read(folder))["pipe"] == "is not a regular file"


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="this system has no /dev/zero")
def test_a_device_is_refused() -> None:
    assert "device" in refusal("/dev/zero")


def test_an_unreadable_file_is_refused_by_name_and_skipped_in_a_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really_open = Path.open

    def open_path(path: Path, *arguments: str) -> IO[Any]:
        if path.name == "b.txt":
            raise PermissionError(13, "Permission denied")
        return really_open(path, *arguments)

    monkeypatch.setattr(Path, "open", open_path)
    assert reasons(read(folder))["b.txt"] == "cannot be read: Permission denied"
    assert "Permission denied" in refusal(folder / "b.txt")


def test_pydoc_is_parsed_once_and_then_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read("pydoc", cache_dir=tmp_path / "cache")
    by_name = {document.name: document.text for document in first.documents}
    assert "Fraction" in by_name["pydoc/modules/fractions"]
    assert len(by_name) == len(first.documents) > 100

    monkeypatch.setattr("ast.parse", lambda source: pytest.fail("parsed again"))
    assert read("pydoc", cache_dir=tmp_path / "cache") == first


def test_a_damaged_cache_of_pydoc_is_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = tmp_path / "library"
    library.mkdir()
    (library / "module.py").write_text('"""What it does."""\nraise SystemExit("imported")', encoding="utf-8")
    (library / "broken.py").write_text("def", encoding="utf-8")
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(library))
    expected = [("modules/module", "module module\n\nWhat it does.\n")]
    assert read_pydoc(tmp_path) == expected
    (cache,) = tmp_path.glob("pydoc-*.json")
    for damage in (b"", b"[1]", b"\xff", b"[]"):
        cache.write_bytes(damage)
        assert read_pydoc(tmp_path) == expected


def test_a_python_without_its_library_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path / "nothing"))
    assert "pydoc" in refusal("pydoc")


def test_reading_ends_after_so_many_bytes_at_a_whole_character(tmp_path: Path) -> None:
    for name, text in (("1.txt", "abc"), ("2.txt", "né🦊z"), ("3.txt", "never read")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    expected = {3: ["abc"], 4: ["abc", "n"], 5: ["abc", "n"], 6: ["abc", "né"], 9: ["abc", "né"], 10: ["abc", "né🦊"]}
    for max_bytes, texts in expected.items():
        assert [document.text for document in read(tmp_path, max_bytes=max_bytes).documents] == texts
    assert [d.text for d in read("-", stdin=io.BytesIO("éé".encode()), max_bytes=3).documents] == ["é"]
    assert read(tmp_path, max_bytes=1000) == read(tmp_path)
    assert read(tmp_path, max_bytes=6).is_cut
    assert not read("-", stdin=io.BytesIO(b"short"), max_bytes=6).is_cut


def test_the_size_of_sources_is_known_without_reading_them(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("abc")
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "b.txt").write_text("four")
    assert size_of([str(tmp_path)]) == 7
    assert size_of([str(tmp_path / "*.txt"), str(tmp_path / "a.txt")]) == 6
    assert size_of(["-"]) == float("inf")
