"""Settings: one frozen dataclass <-> a dictionary, a YAML file, or `--section.field value` on a command line.

Every way in ends in `build`, so a wrong key or value gets the same one-line answer wherever it was written:
what was given, what the rule is, what to do.
"""

import dataclasses
import difflib
import functools
import math
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

T = TypeVar("T")


class InputError(ValueError):
    """Something the user gave cannot be used. The message is one line: what was given, the rule, what to do.

    The command line prints it without a traceback and exits with code 2.
    """


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like `name`, or None where none is close."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)), None)


def build(
    cls: type[T], values: Mapping[str, Any], section: str = "", other_names: Mapping[str, str] | None = None
) -> T:
    """Build the dataclass `cls` from `values`, converting strings and checking every key and type.

    `section` is the prefix shown in errors ("model" gives "model.n_layers"); `other_names` maps what other
    tools call a field to our name for it, so that the error can answer with ours.

    Raises InputError for an unknown key, a value of the wrong type, or what `cls.__post_init__` refuses.
    """
    return cls(**typed(cls, values, section, other_names))


def typed(
    cls: type, values: Mapping[str, Any], section: str = "", other_names: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The first half of `build`: every key and type checked, for values that are not yet all there are."""
    fields = _fields(cls)
    prefix = f"{section}." if section else ""
    converted = {}
    for key, value in values.items():
        name = str(key).replace("-", "_")
        if name not in fields:
            ours = (other_names or {}).get(name)
            ours = ours if ours in fields else nearest(name, fields)
            hint = f"did you mean {prefix}{ours}?" if ours else f"known are: {', '.join(fields)}"
            raise InputError(f"unknown setting {prefix}{key}: {hint}")
        converted[name] = _convert(value, fields[name], prefix + name)
    return converted


def to_dict(settings: Any) -> dict[str, Any]:
    """A dataclass as plain values that YAML and JSON can hold, fields in order."""
    return {f.name: getattr(settings, f.name) for f in dataclasses.fields(settings)}


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises InputError where there is no such file or no mapping in it."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read settings from {path}: {error.strerror}; give the path of a YAML file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = " ".join(str(error).split())
        raise InputError(f"{path} is not valid YAML ({where}); mend it") from None
    if not isinstance(values, dict):
        raise InputError(f"{path} holds no sections; it should look like 'model:' with 'n_layers: 4' indented below")
    return values


def to_yaml(values: Mapping[str, Any]) -> str:
    """YAML text of plain values, keys in the order given."""
    return yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)


def split_overrides(
    arguments: list[str], sections: Mapping[str, type]
) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Take every `--section.field value` (or `--section.field=value`) out of a command line.

    Returns the values by section and the arguments that are left, in order. A bare `--section.flag` of a
    boolean field means true. Raises InputError for an unknown section or a value that is missing.
    """
    taken: dict[str, dict[str, str]] = {section: {} for section in sections}
    rest: list[str] = []
    queue = list(arguments)
    while queue:
        argument = queue.pop(0)
        if argument == "--":
            return taken, [*rest, argument, *queue]
        name, equals, value = argument.removeprefix("--").partition("=")
        section, dot, field = name.partition(".")
        if not (argument.startswith("--") and dot and section.isidentifier()):
            rest.append(argument)
            continue
        if section not in sections:
            known = nearest(section, sections) or ", ".join(sections)
            raise InputError(f"unknown section in --{name}: did you mean --{known}.{field}?")
        field = field.replace("-", "_")
        if not equals:
            is_flag = bool in alternatives(_fields(sections[section]).get(field, str))
            if is_flag and (not queue or queue[0].lower() not in _BOOLEANS):
                value = "true"
            elif queue and (not queue[0].startswith("--")):
                value = queue.pop(0)
            else:
                raise InputError(f"--{name} has no value: write --{name} VALUE")
        taken[section][field] = value
    return taken, rest


_BOOLEANS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


@functools.cache
def _fields(cls: type) -> dict[str, Any]:
    """Field name -> resolved type, in order."""
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls) if f.init}


def alternatives(kind: Any) -> tuple[Any, ...]:
    """The alternatives of a union type, or the type alone."""
    return typing.get_args(kind) if typing.get_origin(kind) in (types.UnionType, typing.Union) else (kind,)


def _convert(value: Any, kind: Any, name: str) -> Any:
    """`value` as the type `kind`; PyYAML and the command line give numbers as text ("6e-4")."""
    options = alternatives(kind)
    if type(None) in options and (value is None or (isinstance(value, str) and value.lower() in ("none", "null"))):
        return None
    for option in options:
        if typing.get_origin(option) is typing.Literal:
            if value in typing.get_args(option):
                return value
        elif option is bool:
            if isinstance(value, bool):
                return value
            if isinstance(value, str) and value.lower() in _BOOLEANS:
                return _BOOLEANS[value.lower()]
        elif option is int:
            if (whole := _whole(value)) is not None:
                return whole
        elif option is float:
            if (number := _number(value)) is not None:
                return number
        elif option is str and isinstance(value, str):
            return value
    raise InputError(f"{name} is {value!r}, but must be {_describe(options)}")


def _whole(value: Any) -> int | None:
    """`value` as a whole number, exactly: 12, "12", "1_000", 1e3; None where it is none."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            pass
    number = _number(value)
    return int(number) if number is not None and number.is_integer() else None


def _number(value: Any) -> float | None:
    """`value` as a finite number; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _describe(options: tuple[Any, ...]) -> str:
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "text", type(None): "none"}
    parts = []
    for option in options:
        if typing.get_origin(option) is typing.Literal:
            parts.append("one of " + ", ".join(map(str, typing.get_args(option))))
        elif option in words:
            parts.append(words[option])
    return " or ".join(parts)
