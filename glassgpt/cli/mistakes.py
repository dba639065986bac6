"""What is wrong with a command line, in one line: what was given, the rule, what to do."""

import typing
from collections.abc import Iterable

from cyclopts import (
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    RepeatArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
)

from glassgpt.config import OTHER_TOOLS, SECTIONS
from glassgpt.settings import InputError, nearest


def advice(error: CycloptsError | InputError) -> str:
    """The line for an error in what was typed."""
    command = " ".join(("glassgpt", *(getattr(error, "command_chain", None) or ())))
    match error:
        case UnknownOptionError(token=token) if token is not None:
            known = [name for argument in error.argument_collection or () for name in argument.names]
            return unknown_option(token.keyword or token.value, known)
        case CoercionError(msg=message) if message is not None:
            return str(message)
        case CoercionError(token=token) if token is not None:
            return _wrong_value(token.keyword or "the value", token.value, error.target_type)
        case MissingArgumentError(argument=argument) if argument is not None:
            name = error.keyword or argument.name
            how = "has no value" if error.keyword else f"is needed by `{command}`"
            return f"{name} {how}: write {name} VALUE"
        case RepeatArgumentError():
            return f"{error.token.keyword} is given twice: keep one of the two"
        case UnknownCommandError():
            return _unknown_command(error, command)
        case UnusedCliTokensError(unused_tokens=[first, *_]):
            return f"`{command}` has no use for {first!r}: leave it out (`{command} --help` says what it takes)"
    return " ".join(str(error).split())


def unknown_option(given: str, known: Iterable[str]) -> str:
    """The line for an option that is none; `known` are the names of the command's own."""
    given = given.partition("=")[0]
    name = given.lstrip("-").replace("-", "_")
    near = nearest(name, [option.lstrip("-").replace("-", "_") for option in known])
    wanted = OTHER_TOOLS.get(name, name)
    places = [section for section, kind in SECTIONS.items() if wanted in kind.__dataclass_fields__]
    if near and name not in OTHER_TOOLS:
        flag = f"--{near}"
    elif places:
        flag = f"--{places[0]}.{wanted} (of `glassgpt train`)"
    else:
        return f"unknown option {given}: the command's --help lists those there are"
    return f"unknown option {given}: did you mean {flag.replace('_', '-')}?"


def _wrong_value(name: str, value: str, kind: object) -> str:
    if typing.get_origin(kind) is typing.Literal:
        choices = [str(choice) for choice in typing.get_args(kind)]
        near = nearest(value, choices)
        hint = f": did you mean {near}?" if near else ""
        return f"{name} is {value!r}, but must be one of {', '.join(choices)}{hint}"
    if kind is bool:
        return f"{name} is {value!r}, but takes no value: write {name} or leave it out"
    words = {int: "a whole number, such as 10", float: "a number, such as 0.5"}
    return f"{name} is {value!r}, but must be {next((words[k] for k in words if k is kind), 'another kind of value')}"


def _unknown_command(error: UnknownCommandError, command: str) -> str:
    given = (error.unused_tokens or ["?"])[0]
    names = [name for name in (error.app or ()) if not name.startswith("-")]
    near = nearest(given, names)
    hint = f"did you mean `{command} {near}`?" if near else f"there are {', '.join(names)}"
    return f"`{command}` has no command {given}: {hint}"
