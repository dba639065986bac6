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
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from glassgpt.config import DataConfig
from glassgpt.data.shards import Ids, read_shard, write_shard
from glassgpt.settings import InputError
from glassgpt.text.documents import Document
from glassgpt.text.kinds import auto_spec, parse_spec, train_tokenizer
from glassgpt.text.tokenizer import Tokenizer

FORMAT = 1
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


def prepare(documents: Sequence[Document], config: DataConfig, cache: Path) -> Prepared:
    """Prepare `documents`, or find them prepared in `cache`.

    Raises InputError for a text too short to split and for a prepared text that was altered.
    """
    n_bytes = sum(len(document.text.encode()) for document in documents)
    spec = auto_spec(n_bytes) if config.tokenizer == "auto" else config.tokenizer
    parse_spec(spec)
    directory = cache / _hash(documents, spec, config.val_fraction)
    if (directory / "prepared.json").exists():
        return open_prepared(directory)

    train, val = split(documents, config.val_fraction)
    if not train or not val or sum(map(len, train)) < 2 or sum(map(len, val)) < 2:
        n = sum(len(document.text) for document in documents)
        raise InputError(
            f"the text has {n} characters, too few to keep {config.val_fraction:.0%} apart for validation: "
            "give a longer text"
        )
    tokenizer = train_tokenizer(spec, train)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=".preparing-", dir=cache))
    except OSError as error:
        raise InputError(f"cannot write to {cache}: {error.strerror}; choose another cache folder") from None
    try:
        n_train = write_shard(aside / "train.shard", token_parts(train, tokenizer), tokenizer.vocab_size)
        n_val = write_shard(aside / "val.shard", token_parts(val, tokenizer), tokenizer.vocab_size)
        tokenizer.save(aside)
        in_train, in_val = sum(map(len, train)), sum(map(len, val))
        facts = Facts(
            documents=len(documents),
            characters=in_train + in_val,
            bytes=n_bytes,
            train_characters=in_train,
            val_characters=in_val,
            val_fraction=in_val / (in_train + in_val),
            tokenizer=spec,
            vocab_size=tokenizer.vocab_size,
            train_tokens=n_train,
            val_tokens=n_val,
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


def split(documents: Sequence[Document], val_fraction: float) -> tuple[list[str], list[str]]:
    """The texts to train on and, from the end, the texts to validate on.

    Many documents are kept whole; of few, the one at the cut is divided at a character.
    """
    texts = [document.text for document in documents]
    n_characters = sum(map(len, texts))
    n_train = max(int(n_characters * (1 - val_fraction)), n_characters - MAX_VAL_CHARACTERS)
    train: list[str] = []
    val: list[str] = []
    seen = 0
    for number, text in enumerate(texts):
        if len(texts) >= MANY_DOCUMENTS:
            is_last = number == len(texts) - 1
            (val if number and (seen + len(text) > n_train or is_last) else train).append(text)
        elif seen < n_train < seen + len(text):
            train.append(text[: n_train - seen])
            val.append(text[n_train - seen :])
        else:
            (train if seen < n_train else val).append(text)
        seen += len(text)
    return train, val


def token_parts(texts: Sequence[str], tokenizer: Tokenizer) -> Iterator[Ids]:
    """The ids of each text, with the separator between two."""
    separator = np.array([tokenizer.end_of_text], dtype=np.uint32)
    for number, text in enumerate(texts):
        if number:
            yield separator
        yield tokenizer.encode_to_numpy(text)


def encode_documents(documents: Sequence[Document], tokenizer: Tokenizer) -> Ids:
    """All of `documents` as ids, to evaluate on."""
    return np.concatenate([*token_parts([document.text for document in documents], tokenizer)])


def _hash(documents: Sequence[Document], spec: str, val_fraction: float) -> str:
    digest = hashlib.sha256(json.dumps([FORMAT, spec, val_fraction, MANY_DOCUMENTS, MAX_VAL_CHARACTERS]).encode())
    for document in documents:
        text = document.text.encode()
        digest.update(len(text).to_bytes(8, "little"))
        digest.update(text)
    return digest.hexdigest()[:32]
