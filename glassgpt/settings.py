"""Settings: one frozen dataclass <-> a dictionary, a YAML file, or `--section.field value` on a command line.

Every way in ends in `build`, so a wrong key or value gets the same one-line answer wherever it was written:
what was given, what the rule is, what to do.
"""

import dataclasses
import difflib
import functools
import math
import reprlib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
_HALF = 600
"""Signs of a message that are kept from its beginning and from its end."""


class InputError(ValueError):
    """Something the user gave cannot be used. The message is one line: what was given, the rule, what to do.

    The command line prints it without a traceback and exits with code 2.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


def without_advice(refusal: InputError) -> str:
    """What is wrong, without what could be done about it."""
    return str(refusal).rpartition(": ")[0] or str(refusal)


def one_line(message: str) -> str:
    """A message as one line that any terminal can show: what cannot be printed is written out (\\n), the middle of a
    very long one is left out."""
    line = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in message)
    return line if len(line) <= 2 * _HALF else f"{line[:_HALF]} ... {line[-_HALF:]}"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like `name`, or None where none is close."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)), None)


def shown(value: Any) -> str:
    """A value as an error shows it: on one line, and not too long."""
    try:
        text = repr(value) if isinstance(value, str) else reprlib.repr(value)
    except ValueError:  # Python writes no number of more than 4,300 digits
        return "a number of very many digits"
    return text if len(text) <= 100 else f"{text[:97]}..."


def is_unicode(text: str) -> bool:
    """Whether `text` can be written down: names of files that are no UTF-8 hold half surrogate pairs."""
    return text.isascii() or not any("\ud800" <= sign <= "\udfff" for sign in text)


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
        name = key.replace("-", "_") if isinstance(key, str) else shown(key)
        if name not in fields:
            ours = (other_names or {}).get(name)
            ours = ours if ours in fields else nearest(name, fields)
            hint = f"did you mean {prefix}{ours}?" if ours else f"known are: {', '.join(fields)}"
            written = shown(key)[1:-1] if isinstance(key, str) else name
            raise InputError(f"unknown setting {prefix}{written}: {hint}")
        converted[name] = _convert(value, fields[name], prefix + name)
    return converted


def to_dict(settings: Any) -> dict[str, Any]:
    """A dataclass as plain values that YAML and JSON can hold, fields in order."""
    return {f.name: getattr(settings, f.name) for f in dataclasses.fields(settings)}


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises InputError where there is no such file or no mapping in it."""
    import yaml  # here and below only where it is needed: a command that writes a text has no time for it

    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        why = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"cannot read settings from {path}: {why}; give the path of a YAML file") from None
    if len(content) > _MOST_BYTES:
        raise InputError(f"{path} has more than {_MOST_BYTES:,} bytes, so it is no file of settings: give another")
    try:
        values = _from_yaml(content.decode("utf-8"))
    except yaml.MarkedYAMLError as error:
        what = error.problem or error.context or "cannot be read"
        where = f"line {error.problem_mark.line + 1}: {what}" if error.problem_mark else what
        raise InputError(f"{path} is not valid YAML ({' '.join(where.split())}); mend it") from None
    except (yaml.YAMLError, *_LEAKS) as error:
        raise InputError(f"{path} is not valid YAML ({' '.join(str(error).split())}); mend it") from None
    if not isinstance(values, dict):
        raise InputError(f"{path} holds no sections; it should look like 'model:' with 'n_layers: 4' indented below")
    return values


def to_yaml(values: Mapping[str, Any]) -> str:
    """YAML text of plain values, keys in the order given."""
    import yaml

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


_MOST_BYTES, _MOST_ENTRIES, _DEEPEST = 10_000_000, 200_000, 20
"""Of a YAML file. PyYAML itself has no limits: a few bytes could keep it busy for hours."""
_LEAKS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What PyYAML lets through for values such as 0x_, 2020-99-01 or !!bool maybe, besides its own errors."""


def _from_yaml(text: str) -> Any:
    """What YAML text stands for. Raises YAMLError, also for a key that stands twice in a mapping, or one of _LEAKS."""
    import yaml

    make_loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    depth = 0
    for n_entries, event in enumerate(yaml.parse(text, Loader=make_loader)):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent):
            raise yaml.MarkedYAMLError(
                problem="settings take no aliases (*name): write the value out", problem_mark=event.start_mark
            )
        if depth > _DEEPEST or n_entries > _MOST_ENTRIES:
            raise yaml.MarkedYAMLError(problem="too much for a file of settings", problem_mark=event.start_mark)
    loader = make_loader(text)
    try:
        node = loader.get_single_node()
        _refuse_twins(node)
        return loader.construct_document(node) if node else None
    finally:
        loader.dispose()


def _refuse_twins(node: Any) -> None:
    """Raise MarkedYAMLError for a key that stands twice in one mapping; PyYAML would take the last."""
    import yaml

    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.MarkedYAMLError(problem=f"{key.value} is given twice", problem_mark=key.start_mark)
                seen.add(key.value)
            _refuse_twins(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_twins(value)


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
                if abs(whole) >= 2**63:
                    raise InputError(f"{name} is {shown(value)}, but must be below 2^63")
                return whole
        elif option is float:
            if (number := _number(value)) is not None:
                return number
        elif option is str and isinstance(value, str):
            if not is_unicode(value):
                raise InputError(f"{name} is {shown(value)}, which is no UTF-8 and cannot be recorded: rename it")
            return value
    raise InputError(f"{name} is {shown(value)}, but must be {_describe(options)}")


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
