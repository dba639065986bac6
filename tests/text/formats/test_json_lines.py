import json

import pytest
from format_files import read, refusal


def test_each_line_is_a_document_and_blank_lines_are_none() -> None:
    lines = '{"text": "one\\ntwo"}\r\n\n  \n{"n": NaN, "text": "é"}\n{"text": "last"}'.encode()
    assert read(lines, "a.jsonl")[0] == ["one\ntwo", "é", "last"]
    assert read(lines, "a.NDJSON")[1].format == "jsonl"


def test_another_field_can_be_named() -> None:
    assert read(b'{"body": "a", "text": 1}', "a.jsonl", text_field="body")[0] == ["a"]


def test_a_line_of_many_blocks_is_one_document() -> None:
    text = "né" * 2_000_000
    assert read(json.dumps({"text": text}).encode() + b"\n", "a.jsonl")[0] == [text]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            '{"txt": "a", "id": 3}',
            'no field "text" in line 2; it has "txt": name the right one with --data.text-field txt',
        ),
        ('{"id": 3}', "no field with a text"),
        ('{"text": 3}', 'a number in the field "text" of line 2'),
        ('["a"]', "a list in line 2"),
        ('{"text": "a"', "line 2, column 13"),
        ("plain", "line 2, column 1"),
        ("[" * 100_000, "line 2 nests"),
        ('{"text": "a", "n": ' + "9" * 5000 + "}", "too many digits"),
    ],
)
def test_a_wrong_line_is_refused_by_its_number(line: str, words: str) -> None:
    assert words in refusal(f'{{"text": "fine"}}\n{line}\n'.encode(), "a.jsonl")


def test_a_line_that_does_not_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glassgpt.text.formats.json_lines._LONGEST_LINE", 3_000_000)
    assert "line 1" in refusal(b'{"text": "' + b"a" * 5_000_000, "a.jsonl")
