"""A text, prepared once: split, tokenizer trained, ids in shards, all in one folder named by its content.

    <cache>/<hash>/
      train.shard  val.shard     token ids (see shards.py)
      tokenizer.json ...         the tokenizer, as Hugging Face files
      prepared.json              what was read, how it was cut, and the sums of the files above; written last

The hash covers the documents and every setting that changes an id, so the same text is found again, and an
altered one is prepared anew. The folder gets its name when everything in it is on the disk, and everything in it is
compared with its sum before use: a flipped bit, a file cut short or one of another text is refused.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from glassgpt.config import DataConfig
from glassgpt.data.portions import PORTION, begin, go_on, record, tokenise
from glassgpt.data.sealed import sealed, unsealed
from glassgpt.data.shards import Ids, read_shard, write_shard
from glassgpt.data.working_folder import remove_abandoned, working_folder
from glassgpt.files.atomic import discard, write_through
from glassgpt.files.reading import LARGE, read_bytes
from glassgpt.settings import InputError, without_advice
from glassgpt.text.corpus import Corpus, Portion, writing_to
from glassgpt.text.kinds import auto_spec, parse_spec, train_tokenizer
from glassgpt.text.tokenizer import Tokenizer

FORMAT = 3
FACTS, TRAIN, VAL = "prepared.json", "train.shard", "val.shard"
LONG = 50_000_000
"""Bytes of a text of which one wants to know how far it is, and that is gone on with where it was interrupted."""
MANY_DOCUMENTS = 20
"""From here on whole documents are kept for validation; fewer are cut at a character."""
MAX_VAL_CHARACTERS = 10_000_000
"""A longer validation text would cost time and tell nothing more."""


@dataclass(frozen=True)
class Facts:
    """What was read and how it was cut."""

    documents: int
    characters: int
    bytes: int
    words: int
    train_characters: int
    val_characters: int
    val_fraction: float
    """The fraction in effect, after the cap."""
    tokenizer: str
    vocab_size: int
    train_tokens: int
    val_tokens: int


@dataclass(frozen=True)
class Prepared:
    """A prepared text, its shards checked and memory-mapped."""

    directory: Path
    facts: Facts
    tokenizer: Tokenizer
    train: Ids
    val: Ids

    @property
    def hash(self) -> str:
        return self.directory.name


def prepare(
    corpus: Corpus,
    config: DataConfig,
    cache: Path,
    n_threads: int = 2,
    phase: Callable[[str], None] = lambda what: None,
    *,
    long: int = LONG,
    n_bytes: int = PORTION,
) -> Prepared:
    """Prepare the texts of `corpus`, or find them prepared in `cache`. `phase` is told what is being done.

    Of a text of more than `long` bytes, progress is recorded after every `n_bytes`: a preparation that was killed or
    interrupted is gone on with when the same text is prepared again. What lies in `cache` and was altered is replaced.
    Raises InputError for a text too short to split.
    """
    spec = auto_spec(corpus.n_bytes) if config.tokenizer == "auto" else config.tokenizer
    parse_spec(spec)
    directory = cache / _hash(corpus, spec, config.val_fraction)
    if (directory / FACTS).exists():
        try:
            return open_prepared(directory)
        except InputError as damage:  # the text is at hand
            phase(f"preparing the text again, since {without_advice(damage)}")
            discard(directory)

    train, val = split(corpus, config.val_fraction)
    in_train, in_val = train.n_characters, val.n_characters
    if in_train < 2 or in_val < 2:
        raise InputError(
            f"the text has {corpus.n_characters} characters, too few to keep {config.val_fraction:.0%} apart for "
            "validation: give a longer text"
        )
    with working_folder(directory, FACTS) as folder, writing_to(cache):
        remove_abandoned(cache)
        tokenizer, sums, n_train = _tokenised(
            folder, spec, train, n_threads, n_bytes if corpus.n_bytes > long else None, phase
        )
        in_val_shard = write_shard(folder / VAL, tokenizer.encode_parts(val.parts(), n_threads), tokenizer.vocab_size)
        facts = Facts(
            documents=corpus.n_documents,
            characters=corpus.n_characters,
            bytes=corpus.n_bytes,
            words=corpus.n_words,
            train_characters=in_train,
            val_characters=in_val,
            val_fraction=in_val / (in_train + in_val),
            tokenizer=spec,
            vocab_size=tokenizer.vocab_size,
            train_tokens=n_train,
            val_tokens=in_val_shard.n_ids,
        )
        sums |= {VAL: in_val_shard.sha256}
        write_through(folder / FACTS, [facts_file(facts, directory.name, sums)])
    return open_prepared(directory)


def _tokenised(
    folder: Path, spec: str, train: Portion, n_threads: int, n_bytes: int | None, phase: Callable[[str], None]
) -> tuple[Tokenizer, dict[str, str], int]:
    """The tokenizer, the sums of its files and of the training shard, which is now there, and how many ids that has.

    With `n_bytes`, the text is a long one: what is done of it is recorded so often, and `phase` told how far it is.
    """
    work = go_on(folder, TRAIN)
    if work is None:
        if spec.startswith(("bpe", "chars")):
            phase("learning the vocabulary")
        tokenizer = train_tokenizer(spec, train.sample() if spec.startswith("bpe") else train.blocks())
        work = begin(folder, TRAIN, train, tokenizer)
        phase("tokenising the text")
    else:
        phase(f"going on with the text at {_percent(train, work.position)} %, where it was interrupted")
    told = _percent(train, work.position) // 10

    def tell() -> None:
        nonlocal told
        tenth = _percent(train, work.position) // 10
        if told < tenth < 10:
            told = tenth
            phase(f"tokenising the text, {10 * tenth} % done")

    with work.shard:
        if n_bytes is None:
            tokenise(work, train, n_threads)
        else:
            record(folder, work)
            tokenise(work, train, n_threads, n_bytes, done=lambda: record(folder, work), read=tell)
        written = work.shard.finish()
    return work.tokenizer, work.sums | {TRAIN: written.sha256}, written.n_ids


def _percent(portion: Portion, position: int) -> int:
    return 100 * (position - portion.start) // portion.n_bytes


def open_prepared(directory: Path) -> Prepared:
    """Open a prepared text. Raises InputError where a file of it is missing, truncated, altered or of another text."""
    again = "delete its folder and prepare the text again"
    facts, name, sums = _read_facts(directory / FACTS)
    if name != directory.resolve().name:
        raise InputError(f"{directory / FACTS} is of another text, the one prepared in a folder {name}: {again}")
    for file in sums.keys() - {TRAIN, VAL}:
        try:
            digest = hashlib.sha256(read_bytes(directory / file, LARGE)).hexdigest()
        except OSError as error:
            raise InputError(f"cannot read {directory / file}: {error.strerror}; {again}") from None
        if digest != sums[file]:
            raise InputError(f"{directory / file} was altered since it was written (its SHA-256 differs): {again}")
    tokenizer = Tokenizer.load(directory)
    shards = {}
    for file, n_tokens in ((TRAIN, facts.train_tokens), (VAL, facts.val_tokens)):
        ids, vocab_size = read_shard(directory / file, sums[file])
        if vocab_size != tokenizer.vocab_size or len(ids) != n_tokens:
            raise InputError(f"{directory / file} does not belong to the tokenizer and facts beside it: {again}")
        shards[file] = ids
    return Prepared(directory, facts, tokenizer, shards[TRAIN], shards[VAL])


def facts_file(facts: Facts, name: str, sums: dict[str, str]) -> bytes:
    """The content of prepared.json, for the folder `name` with files of these sums; of a shard, that in its header."""
    return sealed(asdict(facts) | {"hash": name, "files": sums})


def _read_facts(path: Path) -> tuple[Facts, str, dict[str, str]]:
    again = "delete its folder and prepare the text again"
    try:
        values = unsealed(read_bytes(path))
        name, sums = values.pop("hash"), values.pop("files")
        if isinstance(name, str) and {TRAIN, VAL} < sums.keys():
            return Facts(**values), name, sums
    except OSError:
        missing = f"{path.parent} is no prepared text (it has no {path.name})"
        raise InputError(f"{missing}: prepare the text again") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        pass
    raise InputError(f"{path} was altered, or is of another version of GlassGPT: {again}")


def split(corpus: Corpus, val_fraction: float) -> tuple[Portion, Portion]:
    """What to train on and, from the end, what to validate on.

    Many documents are kept whole; of few, the one at the cut is divided at a character.
    """
    n_characters = corpus.n_characters
    cut = corpus.byte_of(max(int(n_characters * (1 - val_fraction)), n_characters - MAX_VAL_CHARACTERS))
    if corpus.n_documents >= MANY_DOCUMENTS:
        n_train = min(max(1, corpus.first_end_after(cut)), corpus.n_documents - 1)
        cut = corpus.end_of(n_train - 1)
    return Portion(corpus, 0, cut), Portion(corpus, cut, corpus.n_bytes)


def encode_corpus(corpus: Corpus, tokenizer: Tokenizer) -> Ids:
    """All of `corpus` as ids, to evaluate on."""
    return np.concatenate([*tokenizer.encode_parts(corpus.all().parts())])


def _hash(corpus: Corpus, spec: str, val_fraction: float) -> str:
    chosen = [FORMAT, spec, val_fraction, MANY_DOCUMENTS, MAX_VAL_CHARACTERS, corpus.max_ram]
    return hashlib.sha256(json.dumps(chosen).encode() + corpus.digest()).hexdigest()[:32]
