from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassgpt.settings import InputError, build, nearest, read_yaml, split_overrides, to_dict, to_yaml


@dataclass(frozen=True, kw_only=True)
class Tea:
    """Some settings of every type that settings may have."""

    cups: int = 1
    heat: float = 80.0
    kind: Literal["green", "black"] = "green"
    name: str = "tea"
    milk: bool = False
    minutes: float | None = None
    sugar: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Cake:
    pieces: int = 8


SECTIONS = {"tea": Tea, "cake": Cake}


def refusal(make, *arguments) -> str:
    with pytest.raises(InputError) as error:
        make(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("key", "given", "expected"),
    [
        ("cups", "3", 3), ("cups", 3.0, 3), ("cups", "1e3", 1000), ("cups", "1_000", 1000), ("cups", "-2", -2),
        ("heat", "6e-4", 6e-4), ("heat", 90, 90.0), ("kind", "black", "black"), ("name", "7", "7"),
        ("milk", "yes", True), ("milk", "False", False), ("milk", "0", False), ("milk", True, True),
        ("minutes", None, None), ("minutes", "none", None), ("minutes", "3.5", 3.5), ("sugar", "null", None),
        ("sugar", "on", True),
    ],
)  # fmt: skip
def test_text_and_numbers_become_the_fields_type(key: str, given: object, expected: object) -> None:
    value = getattr(build(Tea, {key: given}), key)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("key", "given", "rule"),
    [
        ("cups", "three", "a whole number"), ("cups", 2.5, "a whole number"), ("cups", True, "a whole number"),
        ("cups", None, "a whole number"), ("cups", [2], "a whole number"), ("heat", "hot", "a number"),
        ("heat", "nan", "a number"), ("heat", float("inf"), "a number"), ("heat", "", "a number"),
        ("kind", "red", "one of green, black"), ("name", 7, "text"), ("milk", "maybe", "true or false"),
        ("milk", 1, "true or false"), ("minutes", "soon", "a number or none"), ("sugar", "2", "true or false or none"),
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_refused_with_the_rule(key: str, given: object, rule: str) -> None:
    assert refusal(build, Tea, {key: given}, "tea") == f"tea.{key} is {given!r}, but must be {rule}"


def test_dashes_in_a_key_are_underscores() -> None:
    @dataclass(frozen=True)
    class Dashed:
        two_words: int = 0

    assert build(Dashed, {"two-words": 1}).two_words == 1


def test_an_unknown_key_is_answered_with_the_other_tools_meaning_the_nearest_or_all() -> None:
    others = {"temperature": "heat", "plates": "pieces"}
    assert refusal(build, Tea, {"temperature": 1}, "tea", others) == (
        "unknown setting tea.temperature: did you mean tea.heat?"
    )
    assert refusal(build, Tea, {"cup": 1}, "tea", others).endswith("did you mean tea.cups?")
    assert refusal(build, Tea, {"plates": 1}, "tea", others).endswith("known are: " + ", ".join(to_dict(Tea())))


def test_the_nearest_name_is_none_where_none_is_near() -> None:
    assert nearest("cup", ["cups", "heat"]) == "cups"
    assert nearest("zzz", ["cups", "heat"]) is None


def test_yaml_reads_back_what_was_written(tmp_path: Path) -> None:
    tea = Tea(cups=2, heat=6e-4, name="Grüner Tee: 茶", minutes=None)
    path = tmp_path / "tea.yaml"
    path.write_text(to_yaml({"tea": to_dict(tea)}), encoding="utf-8")
    assert build(Tea, read_yaml(path)["tea"]) == tea


def test_a_file_that_cannot_be_read_as_settings_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tea.yaml"
    assert "No such file" in refusal(read_yaml, path)
    path.write_text("tea: [1, 2")
    assert "is not valid YAML" in refusal(read_yaml, path)
    path.write_text("only words")
    assert "holds no sections" in refusal(read_yaml, path)
    path.write_bytes(b"\xff\xfe\x00tea")
    assert "is not valid YAML" in refusal(read_yaml, path)


@pytest.mark.parametrize(
    ("arguments", "taken", "rest"),
    [
        (["--tea.cups", "3"], {"cups": "3"}, []),
        (["--tea.cups=3", "book.txt"], {"cups": "3"}, ["book.txt"]),
        (["--tea.name=a=b"], {"name": "a=b"}, []),
        (["--tea.heat", "-3"], {"heat": "-3"}, []),
        (["--tea.milk", "book.txt"], {"milk": "true"}, ["book.txt"]),
        (["--tea.milk", "no", "book.txt"], {"milk": "no"}, ["book.txt"]),
        (["--tea.milk", "--json"], {"milk": "true"}, ["--json"]),
        (["--json", "notes.v2.txt", "--out", "a.b"], {}, ["--json", "notes.v2.txt", "--out", "a.b"]),
        (["--", "--tea.cups", "3"], {}, ["--", "--tea.cups", "3"]),
    ],
)
def test_overrides_are_taken_out_of_a_command_line(
    arguments: list[str], taken: dict[str, str], rest: list[str]
) -> None:
    assert split_overrides(arguments, SECTIONS) == ({"tea": taken, "cake": {}}, rest)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tee.cups", "3"], "unknown section in --tee.cups: did you mean --tea.cups?"),
        (["--tea.cups"], "--tea.cups has no value: write --tea.cups VALUE"),
        (["--tea.cups", "--json"], "--tea.cups has no value: write --tea.cups VALUE"),
    ],
)
def test_a_wrong_override_is_refused(arguments: list[str], message: str) -> None:
    assert refusal(split_overrides, arguments, SECTIONS) == message


@given(st.lists(st.text(max_size=6).filter(lambda text: "." not in text)))
def test_arguments_without_a_section_pass_unchanged(arguments: list[str]) -> None:
    assert split_overrides(arguments, SECTIONS) == ({"tea": {}, "cake": {}}, arguments)
