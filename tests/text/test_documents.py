import gzip
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

import pytest

from glassgpt.settings import InputError
from glassgpt.text.corpus import Corpus
from glassgpt.text.documents import Reading, ReadOptions, collect_documents, read_documents, size_of
from glassgpt.text.pydoc import read_pydoc


def read(*sources: object, stdin: IO[bytes] | None = None, **options: Any) -> Reading:
    return read_documents([str(source) for source in sources], ReadOptions(**options), stdin=stdin)


def texts(reading: Reading) -> list[str]:
    return [*reading.corpus.documents()]


def refusal(*sources: object, **options: object) -> str:
    """The one line with which the sources are refused."""
    with pytest.raises(InputError) as refused:
        read(*sources, **options)
    message = str(refused.value)
    assert "\n" not in message
    return message


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
    reading = read(path)
    assert texts(reading) == ["Grüße, 世界"]
    assert (reading.n_files, reading.skipped, reading.n_replaced) == ({"text": 1}, [], 0)


def test_the_order_of_the_sources_is_kept(folder: Path) -> None:
    assert texts(read(folder / "b.txt", folder / "a.md")) == ["bee", "ay"]


def test_byte_order_mark_and_foreign_line_ends_are_normalised(tmp_path: Path) -> None:
    path = tmp_path / "windows.txt"
    path.write_bytes("\ufeffone\r\ntwo\rthree\n".encode())
    assert texts(read(path))[0] == "one\ntwo\nthree\n"


def test_a_folder_is_read_sorted_and_reports_what_it_skips(folder: Path) -> None:
    reading = read(folder)
    assert texts(reading) == ["ay", "bee", "sea"]
    assert reasons(reading).keys() == {"empty.txt", "picture.png", "latin.txt", ".git"}
    assert "a picture" in reasons(reading)["picture.png"]
    assert "offset 3" in reasons(reading)["latin.txt"]


def test_a_pattern_that_the_shell_left_alone_is_expanded(folder: Path) -> None:
    assert texts(read(folder / "*.txt")) == ["bee"]
    assert texts(read(folder / "**" / "c")) == ["sea"]
    assert texts(read(folder / "*")) == ["ay", "bee", "sea"]


def test_a_file_whose_name_looks_like_a_pattern_is_read(tmp_path: Path) -> None:
    (tmp_path / "chapter[1].txt").write_text("one", encoding="utf-8")
    assert texts(read(tmp_path / "chapter[1].txt")) == ["one"]


def test_no_file_is_read_twice(folder: Path) -> None:
    reading = read(folder / "b.txt", folder, folder)
    assert texts(reading) == ["bee", "ay", "sea"]
    assert reasons(reading)["b.txt"] == "was read already"


def test_standard_input_is_a_document() -> None:
    reading = read("-", stdin=io.BytesIO(b"from a pipe\r\n"))
    assert texts(reading) == ["from a pipe\n"]
    assert reading.stdin is not None
    assert [*reading.stdin.blocks()] == ["from a pipe\n"]


def test_the_real_standard_input_is_read_by_default() -> None:
    program = "from glassgpt.text.documents import read_documents as r; print(*r(['-']).corpus.documents())"
    done = subprocess.run([sys.executable, "-c", program], input=b"piped", capture_output=True, check=True)
    assert done.stdout.split() == [b"piped"]


def test_invalid_utf8_can_be_replaced_and_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "damaged.txt"
    path.write_bytes("a\ufffdb".encode() + b"\xff\xfe c \xe4\xb8")
    reading = read(path, invalid_utf8="replace")
    assert texts(reading)[0] == "a\ufffdb\ufffd\ufffd c \ufffd"
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
        (b"%PDF-1.7\n\xe2\xe3", "a.pdf", "PDF document"),
        (b"PK\x03\x04\0\0", "a.docx", "Word document"),
        (b"\x1f\x8b\x08\0", "a.gz", "damaged gzip"),
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
    assert "pdftotext" in refusal(tmp_path / "a.pdf", invalid_utf8="replace")


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
    assert "picture.png is a picture" in refusal(tmp_path)
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
    assert texts(reading) == ["ay", "bee", "sea"]
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


@pytest.mark.thorough
def test_pydoc_is_parsed_once_and_then_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read("pydoc", folder=tmp_path / "cache")
    assert any(text.startswith("module fractions") and "Fraction" in text for text in texts(first))
    assert first.corpus.n_documents > 100

    monkeypatch.setattr("ast.parse", lambda source: pytest.fail("parsed again"))
    again = read("pydoc", folder=tmp_path / "cache")
    assert again.corpus.digest() == first.corpus.digest()


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
    for max_bytes, found in expected.items():
        assert texts(read(tmp_path, max_bytes=max_bytes)) == found
    assert texts(read("-", stdin=io.BytesIO("éé".encode()), max_bytes=3)) == ["é"]
    assert texts(read(tmp_path, max_bytes=1000)) == texts(read(tmp_path))
    assert not read(tmp_path, max_bytes=1000).is_cut
    assert read(tmp_path, max_bytes=6).is_cut
    assert not read("-", stdin=io.BytesIO(b"short"), max_bytes=6).is_cut


def test_the_size_of_sources_is_known_without_reading_them(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("abc")
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "b.txt").write_text("four")
    assert size_of([str(tmp_path)]) == 7
    assert size_of([str(tmp_path / "*.txt"), str(tmp_path / "a.txt")]) == 6
    assert size_of(["-"]) == float("inf")


RUSSIAN = """Прошло семь лет, и никто в деревне уже не помнил о том дне, когда река вышла из берегов.
Только старый мельник каждую весну поднимался на холм и долго смотрел на воду.
"""


def test_what_was_read_is_summed_up(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("five words, and two more:\nthe end", encoding="utf-8")
    (tmp_path / "b.txt").write_text("the same", encoding="utf-8")
    (tmp_path / "copy of b.txt").write_text("the same", encoding="utf-8")
    (tmp_path / "c.jsonl").write_text('{"text": "one"}\n{"text": "the same"}\n', encoding="utf-8")
    (tmp_path / "d.html.gz").write_bytes(gzip.compress(b"<p>Four more&nbsp;words <b>here</b>"))
    (tmp_path / "e.txt").write_bytes((RUSSIAN * 3).encode("cp1251"))
    reading = read(tmp_path)
    corpus = reading.corpus
    assert reading.n_files == {"text": 4, "jsonl": 1, "html.gz": 1}
    assert (corpus.n_documents, corpus.n_duplicates) == (5, 2)
    assert corpus.n_characters == sum(map(len, texts(reading)))
    assert corpus.n_words == 7 + 2 + 1 + 3 + 3 * len(RUSSIAN.split()), "a non-breaking space is part of a word"
    assert [Path(name).name for name in reading.detected] == ["e.txt"]
    assert [*reading.detected.values()] == ["cp1251"]
    assert read(tmp_path, keep_duplicates=True).corpus.n_documents == 7


def test_a_file_that_turns_out_to_be_no_text_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("kept", encoding="utf-8")
    (tmp_path / "b.jsonl").write_text('{"text": "well begun"}\n' * 3 + "not json\n", encoding="utf-8")
    (tmp_path / "c.txt").write_bytes(b"text " * 400_000 + b"\0")
    (tmp_path / "d.txt").write_text("well begun", encoding="utf-8")
    reading = read(tmp_path)
    assert texts(reading) == ["kept", "well begun"]
    assert reading.corpus.digest() == Corpus.of(["kept", "well begun"]).digest()
    assert "line 4" in reasons(reading)["b.jsonl"]
    assert "offset 2000000" in reasons(reading)["c.txt"]


def test_a_file_that_is_written_to_while_it_is_read_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.txt"
    path.write_text("line\n" * 1000, encoding="utf-8")
    really_write = Corpus.write

    def write(corpus: Corpus, text: str) -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write("more\n" if path.stat().st_size < 10_000 else "")
        really_write(corpus, text)

    monkeypatch.setattr(Corpus, "write", write)
    reading = read(path)
    assert reading.changed == [str(path)]
    assert texts(reading)[0].startswith("line\n" * 1000)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_a_pipe_that_never_ends_is_read_as_far_as_is_wanted(tmp_path: Path) -> None:
    writer = subprocess.Popen([sys.executable, "-c", "while True: print('and so on ' * 100)"], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    reading = read("-", stdin=writer.stdout, max_bytes=100_000)
    writer.kill()
    writer.communicate()
    assert reading.is_cut
    assert reading.corpus.n_bytes == 100_000


def test_what_a_program_gives_is_read_like_files() -> None:
    reading = collect_documents(iter(["one\r\ntwo", " ", "three", "three"]))
    assert texts(reading) == ["one\ntwo", "three"]
    for wrong in ([], [" "], [b"bytes"], [None]):
        with pytest.raises(InputError, match=r"documents\(\) gave"):
            collect_documents(wrong)
