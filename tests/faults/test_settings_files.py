"""A YAML file of settings, whatever is in it, is taken or answered with one line; it never keeps anybody waiting."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from tiers import Tally, amount

from glassgpt.api.merge import stored_settings
from glassgpt.config import SECTIONS, GPTConfig, Settings
from glassgpt.settings import InputError, build

BILLION = "\n".join(["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12))])


def read(path: Path, content: bytes) -> str | None:
    """The line that settings of this content are refused with; None where they are taken."""
    path.write_bytes(content)
    try:
        stored_settings(path)
    except InputError as error:
        line = str(error)
        assert len(line.splitlines()) == 1
        assert line.isprintable()
        assert len(line) < 1000 + len(str(path))
        return line
    return None


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"[" * 1_000_000, "line 1: too much"),
        (b"model: " + b"[" * 3000 + b"]" * 3000, "line 1: too much"),
        (b"\n".join(b" " * n + b"a:" for n in range(2000)), "line 21: too much"),
        (b"- " * 100_000, "line 1: too much"),
        (b"a: 1\n" * 500_000, "line 100000: too much"),
        (b" " * 10_000_001, "more than 10,000,000 bytes"),
        (BILLION.encode(), "line 2: settings take no aliases"),
        (b"text: &a [*a]", "settings take no aliases"),
        (b"model: {n_layers: 3, n_layers: 4}", "line 1: n_layers is given twice"),
        (b"model:\n  n_layers: 3\nmodel:\n  n_heads: 4\n", "line 3: model is given twice"),
        (b"model:\n\tn_layers: 3", "line 2: found character that cannot start any token"),
        (b'text: "\xe9"', "is not valid YAML"),
        ("text: book.txt".encode("utf-16"), "is not valid YAML"),
        (b"text: a\0b", "is not valid YAML"),
        (bytes(range(256)), "is not valid YAML"),
        (b"? [a, b]\n: 3", "line 1: found unhashable key"),
        (b"a: 1\n---\nb: 2", "line 2: but found another document"),
        (b"text: !!python/object/apply:os.system [id]", "line 1: could not determine a constructor"),
        (b"text: !!bool maybe", "is not valid YAML"),
        (b'text: !!int ""', "is not valid YAML"),
        (b"run: {steps: 0x_}", "is not valid YAML"),
        (b"run: {steps: 2020-99-01}", "month must be in 1..12"),
        (b"run: {steps: " + b"9" * 5000 + b"}", "is not valid YAML"),
        (b"run: {minutes: " + b":".join([b"59"] * 3000) + b".0}", "is not valid YAML"),
        (b"run: {steps: 0x" + b"f" * 5000 + b"}", "run.steps is a number of very many digits, but must be below 2^63"),
        (b"run: {steps: 2020-01-01}", "run.steps is datetime.date(2020, 1, 1), but must be a whole number or none"),
        (b"run: {steps: yes}", "run.steps is True, but must be a whole number"),
        (b"run: {steps: -.inf}", "run.steps is -inf, but must be a whole number"),
        (b"run: {steps: " + b"x" * 100_000 + b"}", "xxx..., but must be a whole number"),
        (b"optim: {learning_rate: .nan}", "optim.learning_rate is nan, but must be a number"),
        (b"optim: {learning_rate: 1e400}", "optim.learning_rate is '1e400', but must be a number"),
        (b"model: {embedding_dim: 1e300}", "model.embedding_dim is '1e300', but must be below 2^63"),
        (b"model: {architecture: {a: 1}}", "model.architecture is {'a': 1}, but must be one of gpt2, modern"),
        (b'model: {"a\\nb\\u2028\\x1b[31m": 3}', r"unknown setting model.a\nb\u2028\x1b[31m: known are"),
        (b"model: {1: 2}", "unknown setting model.1: known are"),
        (b"model: {n-layers: 2, n_layers: 3}", "model.n_layers is given twice"),
        (b"2020-01-01: 4", "unknown section"),
        (b'run: {max_memory: "' + b"9" * 400 + b'.9GB"}', "run.max_memory is '999"),
        (b"text: [{a: 1}, null]", "text is [{'a': 1}, None] in the settings, but must be a path or a list of paths"),
        (b"prepared: [1]", "prepared is [1] in the settings"),
        (b"plan: [[0, true]]", "plan is [[0, True]] in the settings"),
        (b"plan: [[0, 0x" + b"f" * 5000 + b"]]", "plan is a number of very many digits in the settings"),
        (b"[]", "holds no sections"),
        (b"", "holds no sections"),
    ],
    ids=lambda value: None if isinstance(value, str) else ascii(value[:30])[2:-1],
)
def test_settings_that_are_none_get_one_line(tmp_path: Path, content: bytes, says: str) -> None:
    assert says in (read(tmp_path / "settings.yaml", content) or "it was taken")


def test_a_place_that_is_no_file_gets_one_line(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.yaml", tmp_path / "a\0b", tmp_path / "none" / "none.yaml"):
        with pytest.raises(InputError, match="cannot read settings from"):
            stored_settings(path)


FIELDS = sorted({field for section in SECTIONS.values() for field in section.__dataclass_fields__})
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates() | st.datetimes()
    | st.binary(max_size=4) | st.sampled_from(["1e400", "0x_", "gpt2", "modern", "auto", "6e-4", "-1", "9" * 5000])
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FIELDS) | scalars, inner, max_size=4),
    max_leaves=12,
)
sections = st.dictionaries(st.sampled_from([*SECTIONS, "text", "plan", "prepared"]) | st.text(max_size=6), values)


def given_any(n: int, *strategies: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], None]:
    """Runs a check with so many inputs at once."""
    quickly = settings(max_examples=n, deadline=None, database=None, report_multiple_bugs=False)
    return lambda check: quickly(given(*strategies)(check))()


@pytest.mark.thorough
def test_any_structure_is_taken_or_refused_in_one_line(tmp_path: Path, tally: Tally) -> None:
    n = amount(300, 3000)

    @given_any(n, sections)
    def check(content: dict[str, Any]) -> None:
        read(tmp_path / "settings.yaml", yaml.safe_dump(content, allow_unicode=True).encode("utf-8", "surrogatepass"))
        with contextlib.suppress(InputError):
            Settings.from_dict(content)

    with pytest.raises((TypeError, ValueError, KeyError, AttributeError, OverflowError)):

        @given_any(n, sections)
        def unprotected(content: dict[str, Any]) -> None:
            GPTConfig(**content.get("model", {}))

    tally("input", "structures as settings", n, 0, "settings that are used as they come fail")


SIGNS = [
    *"[]{}:,-?&*!|>'\"%@`# \n\t~<0123456789abxe._", "model", "&a ", "*a ", "<<", "0x", "!!", "!!float ", "\x85",
    "\ufeff", "\x00", "---\n",
]  # fmt: skip
texts = st.lists(st.sampled_from(SIGNS), max_size=40).map("".join)


def test_any_text_is_taken_or_refused_in_one_line(tmp_path: Path, tally: Tally) -> None:
    n = amount(300, 3000)

    @given_any(n, texts)
    def check(text: str) -> None:
        read(tmp_path / "settings.yaml", text.encode())

    with pytest.raises(yaml.YAMLError):

        @given_any(n, texts)
        def unprotected(text: str) -> None:
            yaml.safe_load(text)

    tally("input", "texts as settings", n, 0, "YAML that is read as it comes fails")


def test_any_value_of_any_field_is_taken_or_refused_in_one_line(tally: Tally) -> None:
    n = amount(500, 4000)
    of_a_field = (st.sampled_from(sorted(SECTIONS)), st.sampled_from(FIELDS), values)

    @given_any(n, *of_a_field)
    def check(section: str, field: str, value: Any) -> None:
        line = ""
        try:
            build(SECTIONS[section], {field: value}, section)
        except InputError as error:
            line = str(error)
        assert len(line.splitlines()) <= 1

    with pytest.raises((TypeError, ValueError, AttributeError, OverflowError)):

        @given_any(n, *of_a_field)
        def unprotected(section: str, field: str, value: Any) -> None:
            SECTIONS[section](**{field: value})

    tally("input", "values of fields", n, 0, "fields that take them as they come fail")
