"""A text, prepared once: split, tokenizer trained, ids in shards, all in one folder named by its content.

    <cache>/<hash>/
      train.shard  val.shard     token ids (see shards.py)
      tokenizer.json ...         the tokenizer, as Hugging Face files
      prepared.json              what was read and how it was cut; written last

The hash covers the documents and every setting that changes an id, so the same text is found again, and an
altered one is prepared anew.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from glassgpt.config import DataConfig
from glassgpt.data.shards import Ids, read_shard, write_shard
from glassgpt.settings import InputError
from glassgpt.text.corpus import Corpus, Part, Portion
from glassgpt.text.kinds import auto_spec, parse_spec, train_tokenizer
from glassgpt.text.tokenizer import Tokenizer

FORMAT = 2
LONG = 50_000_000
"""Bytes of a text of which one wants to know how far it is."""
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
) -> Prepared:
    """Prepare the texts of `corpus`, or find them prepared in `cache`. `phase` is told what is being done.

    Raises InputError for a text too short to split and for a prepared text that was altered.
    """
    spec = auto_spec(corpus.n_bytes) if config.tokenizer == "auto" else config.tokenizer
    parse_spec(spec)
    directory = cache / _hash(corpus, spec, config.val_fraction)
    if (directory / "prepared.json").exists():
        return open_prepared(directory)

    train, val = split(corpus, config.val_fraction)
    in_train, in_val = train.n_characters, val.n_characters
    if in_train < 2 or in_val < 2:
        raise InputError(
            f"the text has {corpus.n_characters} characters, too few to keep {config.val_fraction:.0%} apart for "
            "validation: give a longer text"
        )
    if spec.startswith(("bpe", "chars")):
        phase("learning the vocabulary")
    tokenizer = train_tokenizer(spec, train.sample() if spec.startswith("bpe") else train.blocks())
    try:
        cache.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=".preparing-", dir=cache))
    except OSError as error:
        raise InputError(f"cannot write to {cache}: {error.strerror}; choose another cache folder") from None
    try:
        n_tokens = {
            name: write_shard(
                aside / f"{name}.shard",
                tokenizer.encode_parts(_told(portion, name, phase), n_threads),
                tokenizer.vocab_size,
            )
            for name, portion in (("train", train), ("val", val))
        }
        tokenizer.save(aside)
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
            train_tokens=n_tokens["train"],
            val_tokens=n_tokens["val"],
        )
        (aside / "prepared.json").write_text(json.dumps(asdict(facts), indent=2) + "\n", encoding="utf-8")
        if directory.exists():  # a preparation that did not end
            shutil.rmtree(directory)
        os.replace(aside, directory)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return open_prepared(directory)


def open_prepared(directory: Path) -> Prepared:
    """Open a prepared text. Raises InputError where a file of it is missing, truncated or altered."""
    try:
        facts = Facts(**json.loads((directory / "prepared.json").read_text(encoding="utf-8")))
    except OSError:
        raise InputError(f"{directory} is no prepared text (it has no prepared.json): prepare the text again") from None
    except (ValueError, TypeError):
        path = directory / "prepared.json"
        raise InputError(f"{path} was altered: delete its folder and prepare the text again") from None
    tokenizer = Tokenizer.load(directory)
    shards = {}
    for part, n_tokens in (("train", facts.train_tokens), ("val", facts.val_tokens)):
        ids, vocab_size = read_shard(directory / f"{part}.shard")
        if vocab_size != tokenizer.vocab_size or len(ids) != n_tokens:
            raise InputError(
                f"{directory / f'{part}.shard'} does not belong to the tokenizer and facts beside it: "
                "delete its folder and prepare the text again"
            )
        shards[part] = ids
    return Prepared(directory, facts, tokenizer, shards["train"], shards["val"])


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


def _told(portion: Portion, name: str, phase: Callable[[str], None]) -> Iterator[Part]:
    """The parts of a portion; `phase` is told when they begin, and of a long text how far they are."""
    n_done, told = 0, 0
    if name == "train":
        phase("tokenising the text")
    for part in portion.parts():
        yield part
        n_done += len(part[0])  # characters: of another script than Latin the share comes out low
        share = n_done * 10 // portion.n_bytes
        if portion.n_bytes > LONG and told < share < 10:
            told = share
            phase(f"tokenising the text, {10 * share} % done")


def encode_corpus(corpus: Corpus, tokenizer: Tokenizer) -> Ids:
    """All of `corpus` as ids, to evaluate on."""
    return np.concatenate([*tokenizer.encode_parts(corpus.all().parts())])


def _hash(corpus: Corpus, spec: str, val_fraction: float) -> str:
    chosen = [FORMAT, spec, val_fraction, MANY_DOCUMENTS, MAX_VAL_CHARACTERS, corpus.max_ram]
    return hashlib.sha256(json.dumps(chosen).encode() + corpus.digest()).hexdigest()[:32]
