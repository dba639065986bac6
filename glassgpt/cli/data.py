"""`glassgpt data`: prepare a text by hand, look at what was prepared, check it or a whole run."""

import dataclasses
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from glassgpt.cli.page import COLUMN, Page
from glassgpt.cli.words import command
from glassgpt.config import DataConfig
from glassgpt.settings import InputError

if TYPE_CHECKING:
    from glassgpt.data.prepare import Prepared

app = App(name="data", help="Prepare a text, look at what was prepared, check it or a whole run.", help_epilogue="")
AsJson = Annotated[bool, Parameter(name="--json", negative="")]


@app.command(name="prepare")
def prepare_text(
    *text: Annotated[str, Parameter(allow_leading_hyphen=True)],
    tokenizer: str = "auto",
    val_fraction: float = 0.1,
    cache: str | None = None,
    invalid_utf8: str = "refuse",
    encoding: str = "auto",
    text_field: str = "text",
    keep_duplicates: Annotated[bool, Parameter(negative="")] = False,
    max_ram: str = "1GB",
    as_json: AsJson = False,
    overrides: Annotated[dict[str, dict[str, str]] | None, Parameter(parse=False)] = None,
) -> int:
    """Turn a text into shards of token ids; `train` does it by itself.

    Parameters
    ----------
    text
        Text files, folders, globs, - for standard input, or pydoc (the default).
    tokenizer
        auto (by the size of the text), gpt2, bpe:N, chars or bytes.
    val_fraction
        Share of the text, from its end, kept apart to measure bits per byte.
    cache
        Where prepared texts live (~/.cache/glassgpt).
    invalid_utf8
        refuse, or replace by U+FFFD.
    encoding
        Of text that is not UTF-8, such as cp1252; auto: what it clearly is.
    text_field
        The field of a line of .jsonl that holds its text.
    keep_duplicates
        Keep documents that equal an earlier one.
    max_ram
        Memory to work in, however large the text is.
    as_json
        Print one JSON object, and nothing else, on standard output.
    """
    from glassgpt import settings
    from glassgpt.api.texts import prepare_texts, read_texts, reading_notes

    given = {
        "tokenizer": tokenizer, "val_fraction": val_fraction, "cache": cache, "invalid_utf8": invalid_utf8,
        "encoding": encoding, "text_field": text_field, "keep_duplicates": keep_duplicates, "max_ram": max_ram,
    }  # fmt: skip
    for section, values in (overrides or {}).items():
        if values and section != "data":
            raise InputError(f"--{section}.{next(iter(values))} has nothing to do with preparing a text: leave it out")
    config = settings.build(DataConfig, given | (overrides or {}).get("data", {}), "data")
    phase("reading the text" if text else "reading Python's own documentation (pydoc), since no text is given")
    reading = read_texts(list(text) or ["pydoc"], config)
    prepared = prepare_texts(reading.corpus, config, phase)
    for path, reason in reading.skipped:
        print(f"skipped {path}: {reason}", file=sys.stderr)
    for note in reading_notes(dataclasses.replace(reading, skipped=[]), text):
        print(note, file=sys.stderr)
    if "-" in text:  # it cannot be read again
        return _show(prepared, as_json, command("data", "info", prepared.directory))
    usual = settings.to_dict(DataConfig())
    changed = {name: value for name, value in settings.to_dict(config).items() if value != usual[name]}
    flags = [part for name, value in changed.items() for part in (f"--data.{name.replace('_', '-')}", value)]
    return _show(prepared, as_json, command("train", *text, *flags))


def phase(what: str) -> None:
    """Say on standard error what takes time."""
    print(f"  {what} ...", file=sys.stderr)


@app.command
def info(directory: str | None = None, /, *, as_json: AsJson = False) -> int:
    """Say what was prepared.

    Parameters
    ----------
    directory
        A prepared text, as `data prepare` names it, or a run. Left out: the newest run.
    as_json
        Print one JSON object, and nothing else, on standard output.
    """
    after = ["glassgpt", "data", "verify", *([directory] if directory else [])]
    return _show(_open(directory), as_json, shlex.join(after))


@app.command
def verify(directory: str | None = None, /, *, as_json: AsJson = False) -> int:
    """Check every byte of a prepared text, or a run with its text, and say what can still be done with it.

    Of a run: its settings, its text, its checkpoints with every number in them, the records of its training. Damage
    ends with exit code 2.

    Parameters
    ----------
    directory
        A prepared text, as `data prepare` names it, or a run. Left out: the newest run.
    as_json
        Print one JSON object, and nothing else, on standard output.
    """
    if directory is None or not (Path(directory) / "prepared.json").exists():
        return _verify_run(directory, as_json)
    prepared = _open(directory)
    n_ids = len(prepared.train) + len(prepared.val)
    if as_json:
        print(json.dumps({"directory": str(prepared.directory), "intact": True, "tokens": n_ids}))
    else:
        print(f"{prepared.directory}: intact, {n_ids:,} tokens")
        print("\nNext: glassgpt train book.txt", file=sys.stderr)
    return 0


def _verify_run(directory: str | None, as_json: bool) -> int:
    """Raises InputError where there is no run, and at the end where something of it is damaged."""
    from glassgpt.api.verify import verify_run
    from glassgpt.checkpoint.run import begun_run
    from glassgpt.cli.verified import as_values, next_command, show_checks, show_finding, show_what_is_left

    page = Page(sys.stderr if as_json else sys.stdout, column=17)
    verified = verify_run(begun_run(directory), page.doing)
    page.doing("")
    damage, path = verified.damage, verified.run.path
    if as_json:
        print(json.dumps(as_values(verified)))
    else:
        page.line(f"{path}:")
        show_checks(page, verified)
        page.column = COLUMN
        for finding in verified.wrong:
            show_finding(page, finding)
        show_what_is_left(page, verified)
    if damage:
        more = f", and {len(damage) - 1:,} more" if len(damage) > 1 else ""
        raise InputError(f"{path} is not intact ({damage[0].what}{more}): above is what to do, and what is left")
    if not as_json:
        print(f"\nNext: {next_command(verified)}", file=sys.stderr)
    return 0


def _open(directory: str | None) -> "Prepared":
    if directory is None:
        from glassgpt.checkpoint.run import find_run

        directory = str(find_run(None).path)
    from glassgpt.api.texts import prepared_of
    from glassgpt.data.prepare import open_prepared

    path = Path(directory)
    if not path.is_dir():
        raise InputError(f"no directory {directory}: give a prepared text (`glassgpt data prepare` names it) or a run")
    return open_prepared(path) if (path / "prepared.json").exists() else prepared_of(path)


def _show(prepared: "Prepared", as_json: bool, after: str) -> int:
    facts = dataclasses.asdict(prepared.facts)
    if as_json:
        print(json.dumps({"directory": str(prepared.directory)} | facts))
        return 0
    print(prepared.directory)
    for name, value in facts.items():
        shown = f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else value
        print(f"  {name.replace('_', ' '):<18}{shown}")
    print(f"\nNext: {after}", file=sys.stderr)
    return 0
