"""The texts of a run: where they lie prepared, how they are found again, what to tell of their reading."""

import os
import re
import shlex
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from glassgpt.api.cores import available_cores
from glassgpt.checkpoint.run import settings_of_run
from glassgpt.checkpoint.run_settings import read_settings
from glassgpt.config import DataConfig, Settings, parse_bytes
from glassgpt.data.overlap import overlap
from glassgpt.data.prepare import Prepared, open_prepared, prepare, split
from glassgpt.data.shards import Ids
from glassgpt.data.working_folder import WORKING
from glassgpt.files.atomic import sync_directory, write_through
from glassgpt.settings import InputError, without_advice
from glassgpt.text.corpus import Corpus, Portion, writing_to
from glassgpt.text.documents import GIVEN, HIDDEN, Reading, ReadOptions, collect_documents, read_documents
from glassgpt.text.tokenizer import Tokenizer

DEFAULT_CACHE = Path("~/.cache/glassgpt")
DocumentMaker = Callable[[], Iterable[str]]
"""Gives the texts to train on, the same each time it is called."""
MOST_REASONS = 4
"""Lines of one sort in the header, at most."""
MUCH = 0.3
"""Of the validation text that may stand in the training text without a word about it."""
_MEANT = (HIDDEN, "was read already", "is not a regular file", "is a picture; give the text itself")
"""Reasons that surprise nobody."""
_REFUSED = re.compile(r'[<>:"/\\|?*\x00-\x1f]')
"""Signs that Windows has in no file's name."""
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""Devices of Windows, with any suffix."""


def cache_folder(data: DataConfig) -> Path:
    """Where prepared texts live."""
    return Path(data.cache).expanduser() if data.cache else DEFAULT_CACHE.expanduser()


def read_texts(sources: Sequence[str], data: DataConfig, documents: DocumentMaker | None = None) -> Reading:
    """Read `sources` as `data` says; the source GIVEN is what `documents` gives. Raises InputError where that fails."""
    options = ReadOptions(
        encoding=data.encoding,
        invalid_utf8=data.invalid_utf8,
        text_field=data.text_field,
        keep_duplicates=data.keep_duplicates,
        max_ram=parse_bytes(data.max_ram, "data.max_ram"),
        max_bytes=data.max_bytes,
        folder=cache_folder(data),
    )
    if GIVEN not in sources:
        return read_documents(sources, options)
    if documents is None:
        raise InputError(f"this run's text came from {GIVEN} of its own code, which is not there: give it again")
    return collect_documents(documents(), options)


def prepare_texts(
    corpus: Corpus, data: DataConfig, phase: Callable[[str], None] = lambda what: None
) -> Prepared:
    """`prepare` with all cores, in the cache that `data` names."""
    return prepare(corpus, data, cache_folder(data), available_cores(), phase)


def prepared_of(directory: Path) -> Prepared:
    """The prepared text of a run, or of the run that a checkpoint lies in. Raises InputError where there is none."""
    if place := settings_of_run(directory):
        return prepared_again(read_settings(place.parent), note=warnings.warn)
    raise InputError(
        f"{directory} is no run of GlassGPT, so it has no text of its own; `glassgpt eval` takes one with --data"
    )


def validation_ids(directory: Path, tokenizer: Tokenizer) -> Ids:
    """The validation text of the run that a model is of. Raises InputError where its ids are another tokenizer's."""
    prepared = prepared_of(directory)
    if prepared.tokenizer.fingerprint() != tokenizer.fingerprint():
        raise InputError(
            f"{directory} has another tokenizer than the text {prepared.hash} of its run is prepared with: give the "
            "text itself with --data"
        )
    return prepared.val


def prepared_again(
    chosen: Settings, documents: DocumentMaker | None = None, note: Callable[[str], object] = lambda line: None
) -> Prepared:
    """The run's own prepared text; prepared again where the cache no longer has it, or has it damaged, which is noted.

    Raises InputError where the text is not there as it was.
    """
    folder, damage = cache_folder(chosen.data) / chosen.prepared, None
    if (folder / "prepared.json").exists():
        try:
            return open_prepared(folder)
        except InputError as error:
            damage = error
    try:
        corpus = read_texts(chosen.text, chosen.data, documents).corpus
    except InputError as missing:
        raise damage or _with_stdin_named(missing, chosen.text) from None
    prepared = prepare_texts(corpus, chosen.data)
    if damage and prepared.hash == chosen.prepared:
        note(f"the text was prepared again: {without_advice(damage)}")
    if prepared.hash != chosen.prepared:
        if damage:
            raise damage
        raise InputError(
            f"the text {', '.join(chosen.text)} has changed since this run began: start a new run on it, or bring "
            "the old text back"
        )
    return prepared


def _with_stdin_named(missing: InputError, sources: Sequence[str]) -> InputError:
    """What to do where a text that came from standard input is kept no more."""
    lost = next((source for source in sources if Path(source).name.startswith("stdin-")), None)
    if lost is None or Path(lost).exists():
        return missing
    return InputError(f"the text came from standard input and was kept in {lost}, which is gone: put it there again")


def lasting(source: str, reading: Reading, cache: Path) -> str:
    """A source as it can be read again later: a file's whole path; standard input is kept in the cache."""
    if source == "-" and reading.stdin is not None:
        return str(_kept(reading.stdin, cache))
    return source if source in ("pydoc", GIVEN) else os.path.abspath(source)


def _kept(text: Portion, cache: Path) -> Path:
    """A file in the cache with all of this text, there in full or not at all."""
    aside = cache / f"{WORKING}stdin-{os.getpid()}"
    with writing_to(cache):
        try:
            total = write_through(aside, (block.encode() for block in text.blocks()))
            kept = cache / f"stdin-{total.sha256[:32]}.txt"
            os.replace(aside, kept)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
        sync_directory(cache)
    return kept


def run_name(texts: Sequence[str]) -> str:
    """The name of the first source: the file's, the folder's, or `stdin`; one that every system takes for a folder."""
    first = texts[0].removesuffix("()")
    name = "stdin" if first == "-" else Path(os.path.abspath(first.split("*")[0])).stem
    name = _REFUSED.sub("-", name).strip(". ")  # a dot at its beginning would hide it
    return f"{name}-run" if _RESERVED.fullmatch(name) else name or "run"


def reading_notes(reading: Reading, sources: Sequence[str]) -> list[str]:
    """What was passed over, guessed or replaced while reading `sources`, for the header."""
    notes: list[str] = []
    by_reason: dict[str, list[str]] = {}
    for path, reason in sorted(reading.skipped, key=lambda skipped: skipped[1] in _MEANT):  # what matters comes first
        by_reason.setdefault(reason, []).append(path)
    for reason, paths in by_reason.items():
        more = f" and {len(paths) - 1:,} more" if len(paths) > 1 else ""
        notes.append(f"skipped {paths[0]}{more}: {reason}")
    if len(notes) > MOST_REASONS:
        rest = sum(len(paths) for paths in [*by_reason.values()][MOST_REASONS:])
        lists = f"`glassgpt data prepare {shlex.join(sources)}` lists them"
        notes = [*notes[:MOST_REASONS], f"skipped {rest:,} more {'file' if rest == 1 else 'files'}: {lists}"]
    for path in reading.duplicates[:MOST_REASONS]:
        notes.append(f"{path} equals an earlier text and is left out; --data.keep-duplicates keeps it")
    if rest := reading.corpus.n_duplicates - len(reading.duplicates[:MOST_REASONS]):
        what = "document equals an earlier one and is" if rest == 1 else "documents equal earlier ones and are"
        notes.append(f"{rest:,} {what} left out")
    for number, (path, encoding) in enumerate(reading.detected.items()):
        if number == MOST_REASONS:
            notes.append(f"and {len(reading.detected) - number:,} more files that are not UTF-8")
            break
        notes.append(f"{path} is taken to be in {encoding}; --data.encoding names another")
    if reading.n_replaced:
        notes.append(f"{reading.n_replaced:,} signs U+FFFD stand for invalid UTF-8")
    notes += [f"{path} was written to while it was read: what was there is used" for path in reading.changed[:3]]
    return notes


def overlap_note(corpus: Corpus, data: DataConfig) -> list[str]:
    """What to tell of a validation text that stands in the training text too."""
    share = overlap(*split(corpus, data.val_fraction))
    if share < MUCH:
        return []
    return [
        f"{share:.0%} of the validation text stands in the training text too (two drafts of one book?), so its score "
        "will say little: leave one of them out"
    ]
