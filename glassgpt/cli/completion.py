"""`glassgpt completion SHELL`: a script by which a shell completes commands, flags, settings and their values.

Where it knows nothing better the shell completes file names, as texts and runs are.
"""

import os
import shlex
import sys
import typing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from cyclopts import App

from glassgpt import settings
from glassgpt.config import PRESETS, SECTIONS
from glassgpt.settings import InputError

Shell = Literal["bash", "zsh", "fish"]
LOADED_BY: dict[Shell, str] = {
    "bash": 'add this line to ~/.bashrc:  eval "$(glassgpt completion bash)"',
    "zsh": 'add this line to ~/.zshrc, after compinit:  eval "$(glassgpt completion zsh)"',
    "fish": "glassgpt completion fish > ~/.config/fish/completions/glassgpt.fish",
}
TOKENIZERS = ("auto", "gpt2", "bpe:4096", "chars", "bytes")


@dataclass(frozen=True)
class Command:
    """What may follow a command."""

    flags: dict[str, str]
    """Name -> what it is, in a few words."""
    words: tuple[str, ...]
    """Commands below it, or what else may stand there besides a file."""


def completion(shell: Shell | None = None, /) -> int:
    """Print a script by which your shell completes commands, flags and their values.

    Parameters
    ----------
    shell
        bash, zsh or fish. Left out: the one that SHELL names.
    """
    shell = shell or next((name for name in LOADED_BY if os.environ.get("SHELL", "").endswith(name)), None)
    if shell is None:
        raise InputError("no shell was named: give bash, zsh or fish")
    from glassgpt.cli.main import TAKES_SETTINGS, app

    commands = dict(_commands(app, TAKES_SETTINGS))
    print(_fish(commands, _values(app)) if shell == "fish" else _bash(commands, _values(app), shell))
    if sys.stdout.isatty():
        print(f"\nNext: {LOADED_BY[shell]}", file=sys.stderr)
    return 0


def _commands(app: App, take_settings: tuple[str, ...]) -> Iterator[tuple[str, Command]]:
    """Every command by its name, such as "data info"; the first is "", which is none yet."""
    yield "", Command({"--help": "Explain", "--version": "Say which version this is"}, _below(app))
    for name in _below(app):
        if deeper := _below(app[name]):
            yield name, Command({"--help": "Explain"}, deeper)
    for name, command in _leaves(app):
        fields = _fields() if name in take_settings else {}
        words = {"plan": tuple(PRESETS), "completion": typing.get_args(Shell)}.get(name, ())
        yield name, Command(_flags(command) | fields, words)


def _leaves(app: App, above: str = "") -> Iterator[tuple[str, App]]:
    """The commands that do something."""
    for name in _below(app):
        yield from _leaves(app[name], f"{name} ") if _below(app[name]) else [(above + name, app[name])]


def _below(app: App) -> tuple[str, ...]:
    return tuple(name for name in app if not name.startswith("-"))


def _flags(command: App) -> dict[str, str]:
    found = {"--help": "Explain"}
    for argument in command.assemble_argument_collection(parse_docstring=True):
        flags = [name for name in argument.names if name.startswith("--")]
        if flags and argument.parse and argument.field_info.is_keyword:
            about = " ".join((argument.parameter.help or "").split())
            found[flags[0]] = about.partition(". ")[0].rstrip(".")
    return found


def _fields() -> dict[str, str]:
    """Every setting, as it is typed."""
    listed = ((section, name) for section, kind in SECTIONS.items() for name in kind.__dataclass_fields__)
    return {f"--{section}.{name}".replace("_", "-"): f"Setting of section {section}" for section, name in listed}


def _values(app: App) -> dict[str, tuple[str, ...]]:
    """The values of a flag that has few."""
    found = {"--preset": tuple(PRESETS), "--tokenizer": TOKENIZERS, "--data.tokenizer": TOKENIZERS}
    for section, kind in SECTIONS.items():
        for name, hint in typing.get_type_hints(kind).items():
            if values := _choices(hint):
                found[f"--{section}.{name}".replace("_", "-")] = values
    for _, command in _leaves(app):
        for argument in command.assemble_argument_collection():
            if values := _choices(argument.hint):
                found |= {flag: values for flag in argument.names if flag.startswith("--")}
    return found


def _choices(hint: Any) -> tuple[str, ...]:
    options = settings.alternatives(hint)
    literal = [str(v) for option in options if typing.get_origin(option) is Literal for v in typing.get_args(option)]
    return tuple(literal) or (("true", "false") if bool in options else ())


def _bash(commands: dict[str, Command], values: dict[str, tuple[str, ...]], shell: Shell) -> str:
    """One function; zsh runs it by its own emulation of bash's completion."""
    deep = "|".join(_deep(commands))
    cases = [
        f"    {shlex.quote(name)}) flags={_list(command.flags)}; words={_list(command.words)};;"
        for name, command in commands.items()
    ]
    listed = [f"    {flag}) words={_list(found)}; flags='';;" for flag, found in values.items()]
    lines = [
        *(["autoload -U +X bashcompinit && bashcompinit"] if shell == "zsh" else []),
        "_glassgpt() {",
        '  local cur="${COMP_WORDS[COMP_CWORD]}" prev="${COMP_WORDS[COMP_CWORD-1]}" verb="" flags="" words=""',
        '  [ "$COMP_CWORD" -gt 1 ] && verb="${COMP_WORDS[1]}"',
        f'  case "$verb" in {deep}) [ "$COMP_CWORD" -gt 2 ] && verb="$verb ${{COMP_WORDS[2]}}";; esac',
        '  case "$verb" in',
        *cases,
        "  esac",
        '  case "$prev" in',
        *listed,
        "  esac",
        '  case "$cur" in -*) words="$flags";; esac',
        '  COMPREPLY=($(compgen -W "$words" -- "$cur"))',
        "}",
        "complete -o default -F _glassgpt glassgpt",
    ]
    return "\n".join(lines)


def _deep(commands: Iterable[str]) -> list[str]:
    """The commands that have others below them."""
    return list(dict.fromkeys(name.split()[0] for name in commands if " " in name))


def _list(words: Iterable[str]) -> str:
    return shlex.quote(" ".join(words))


def _fish(commands: dict[str, Command], values: dict[str, tuple[str, ...]]) -> str:
    lines: list[str] = []
    deep = _deep(commands)
    for name, command in commands.items():
        seen = "; and ".join(f"__fish_seen_subcommand_from {word}" for word in name.split())
        if name and " " not in name and name not in deep:  # `tokenizer train` is no `train`
            seen += f"; and not __fish_seen_subcommand_from {' '.join(deep)}"
        deeper = f"{seen}; and not __fish_seen_subcommand_from {' '.join(command.words)}"
        where = shlex.quote(seen or "__fish_use_subcommand")
        if command.words:
            there = where if not name else shlex.quote(deeper)
            lines.append(f"complete -c glassgpt -n {there} -f -a {_list(command.words)}")
        for flag, about in command.flags.items():
            choices = f" -x -a {_list(values[flag])}" if flag in values else ""
            lines.append(f"complete -c glassgpt -n {where} -l {flag[2:]} -d {shlex.quote(about)}{choices}")
    return "\n".join(lines)
