"""`glassgpt tokenizer`: train one, and see what it makes of a text."""

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from glassgpt.cli.words import command, printable
from glassgpt.settings import InputError

if TYPE_CHECKING:
    from glassgpt.text.tokenizer import Tokenizer

app = App(name="tokenizer", help="Train a tokenizer, encode a text, decode ids.", help_epilogue="")


@app.command
def train(
    *text: Annotated[str, Parameter(allow_leading_hyphen=True)],
    out: str,
    tokenizer: str = "bpe:4096",
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Train a tokenizer on a text and save it as Hugging Face files.

    Parameters
    ----------
    text
        Text files, folders, globs, - for standard input, or pydoc.
    out
        The directory to write.
    tokenizer
        bpe:N (N tokens), chars, bytes or gpt2.
    as_json
        Print one JSON object, and nothing else, on standard output.
    """
    from glassgpt.text.documents import read_documents
    from glassgpt.text.kinds import train_tokenizer

    directory = Path(out)
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise InputError(f"--out {out} exists and is not empty: choose a new directory, nothing is overwritten")
    corpus = read_documents(list(text) or ["pydoc"]).corpus
    whole = corpus.all()
    made = train_tokenizer(tokenizer, whole.sample() if tokenizer.startswith("bpe") else whole.blocks())
    made.save(directory)
    n_bytes = corpus.n_bytes
    n_ids = sum(len(ids) for ids in made.encode_parts(whole.parts()))
    if as_json:
        values = {"directory": out, "vocab_size": made.vocab_size, "bytes": n_bytes, "tokens": n_ids}
        print(json.dumps(values))
        return 0
    print(f"{out}: {made.vocab_size:,} tokens; the text is {n_ids:,} tokens, {n_bytes / n_ids:.2f} bytes each")
    print(f'\nNext: glassgpt tokenizer encode {out} "Every effort moves you"', file=sys.stderr)
    return 0


@app.command
def encode(
    directory: str | None = None,
    text: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    /,
    *,
    allow_special: bool = False,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Show the ids of a text and the piece that each stands for.

    Parameters
    ----------
    directory
        A tokenizer's directory, a run or a model, or gpt2. Left out: the newest run.
    text
        The text; left out, standard input is read.
    allow_special
        Let <|endoftext|> in the text become the special token.
    as_json
        Print one JSON object, and nothing else, on standard output.
    """
    if text is None and directory is not None and sys.stdin.isatty() and not Path(directory).exists():
        how = command("tokenizer", "encode", "gpt2", directory)
        raise InputError(f"no tokenizer {directory!r}: the text comes second, as in {how}")
    name, tokenizer = _open(directory)
    ids = tokenizer.encode(sys.stdin.read() if text is None else text, allow_special=allow_special)
    pieces = [tokenizer.piece(token).decode("utf-8", errors="backslashreplace") for token in ids]
    if as_json:
        print(json.dumps({"ids": ids, "pieces": pieces}))
    else:
        print(*ids)
        print("|".join(pieces), file=sys.stderr)
        print(f"\nNext: {shlex.join(['glassgpt', 'tokenizer', 'decode', name, *map(str, ids[:8])])}", file=sys.stderr)
    return 0


@app.command
def decode(
    directory: str | None = None,
    /,
    *ids: int,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Show the text of ids.

    Parameters
    ----------
    directory
        A tokenizer's directory, a run or a model, or gpt2. Left out: the newest run.
    ids
        The ids; left out, they are read from standard input.
    as_json
        Print one JSON object, and nothing else, on standard output.
    """
    name, tokenizer = _open(directory)
    given = list(ids) or [_number(word) for word in sys.stdin.read().replace(",", " ").split()]
    text = tokenizer.decode(given)
    print(json.dumps({"text": text}) if as_json else text)
    if not as_json:
        after = printable(shlex.join(["glassgpt", "tokenizer", "encode", name, text[:40]]))
        print(f"\nNext: {after}", file=sys.stderr)
    return 0


def _open(directory: str | None) -> "tuple[str, Tokenizer]":
    """The tokenizer, and the directory as it can be typed."""
    from glassgpt.text.kinds import train_tokenizer
    from glassgpt.text.tokenizer import Tokenizer

    if directory == "gpt2" and not Path(directory).exists():
        return directory, train_tokenizer("gpt2", [])
    if directory and any((Path(directory) / name).exists() for name in ("tokenizer.json", "merges.txt")):
        return directory, Tokenizer.load(Path(directory))
    from glassgpt.checkpoint.run import find_checkpoint

    found = find_checkpoint(directory)
    return directory or str(found), Tokenizer.load(found)


def _number(word: str) -> int:
    try:
        return int(word)
    except ValueError:
        raise InputError(f"{word!r} is no id: ids are whole numbers, such as 15496 11 314 716") from None
