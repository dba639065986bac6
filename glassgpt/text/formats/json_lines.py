"""JSON Lines: an object a line, and in one of its fields a text."""

import json
from collections.abc import Iterable, Iterator

from glassgpt.settings import nearest
from glassgpt.text.formats.interface import NotText, TextSink

_LONGEST_LINE = 32 * 1024 * 1024  # characters; parsed, a hostile line takes many times that
_KINDS: dict[type, str] = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}


def read_json_lines(blocks: Iterable[str], sink: TextSink, text_field: str) -> None:
    """Each line's field is a document; blank lines are passed over. Raises NotText, naming a line that is wrong."""
    for number, line in _numbered_lines(blocks):
        if line and not line.isspace():
            sink.write(_text_in(line, number, text_field))
            sink.end_document()


def _numbered_lines(blocks: Iterable[str]) -> Iterator[tuple[int, str]]:
    begun: list[str] = []  # pieces of a line whose end has not come
    number, n_begun = 1, 0
    for block in blocks:
        *lines, rest = block.split("\n")
        for line in lines:
            yield number, "".join([*begun, line])
            begun.clear()
            number, n_begun = number + 1, 0
        begun.append(rest)
        n_begun += len(rest)
        if n_begun > _LONGEST_LINE:
            reason = f"has over {_LONGEST_LINE:,} characters in line {number}"
            raise NotText(f"{reason}; put each text into a line of its own")
    yield number, "".join(begun)


def _text_in(line: str, number: int, field: str) -> str:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise NotText(f"is not JSON Lines: line {number}, column {error.colno}: {error.msg}; mend it") from None
    except RecursionError:
        raise NotText(f"is not usable JSON Lines: line {number} nests lists or objects too deeply; mend it") from None
    except ValueError:  # Python reads no whole number of more than 4300 digits
        raise NotText(f"is not usable JSON Lines: line {number} holds a number of too many digits; mend it") from None
    if not isinstance(record, dict):
        raise NotText(f'has {_kind(record)} in line {number}, where an object such as {{"{field}": "…"}} must be')
    if field not in record:
        raise NotText(f'has no field "{field}" in line {number}; {_fields(record, field)}')
    if not isinstance(record[field], str):
        raise NotText(f'has {_kind(record[field])} in the field "{field}" of line {number}, where a text must be')
    return record[field]


def _kind(value: object) -> str:
    return _KINDS.get(type(value), "a number")


def _fields(record: dict[str, object], wanted: str) -> str:
    texts = [name for name, value in record.items() if isinstance(value, str)]
    if not texts:
        return "the line has no field with a text"
    shown = ", ".join(json.dumps(name[:40], ensure_ascii=False) for name in texts[:8])
    best = nearest(wanted, texts) or texts[0]
    return f"it has {shown}: name the right one with --data.text-field {best[:40]}"
