"""Tokenising a text in portions, so that a long one need not be begun anew when the process is killed.

After each portion its ids are forced to the disk, and then `progress.json` says how far the text is done and what the
SHA-256 of those ids is. Who goes on compares the ids with it before adding any; where they differ the text is begun
anew. Each portion is read from its own beginning, also by a process that was not interrupted, so the shard is the
same in either case.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from glassgpt.data.sealed import sealed, unsealed
from glassgpt.data.shards import ShardWriter, Written
from glassgpt.data.working_folder import PROGRESS
from glassgpt.files.atomic import remove_litter, write_atomically, write_through
from glassgpt.files.reading import LARGE, read_bytes
from glassgpt.text.corpus import Part, Portion
from glassgpt.text.tokenizer import Tokenizer

PORTION = 25_000_000
"""Bytes of a text after which progress is recorded: a few seconds of work."""


@dataclass
class Work:
    """A text that is being tokenised."""

    tokenizer: Tokenizer
    sums: dict[str, str]
    """SHA-256 of the tokenizer's files, by name."""
    shard: ShardWriter
    position: int
    """Of the first byte whose ids are not in the shard."""


def begin(folder: Path, shard: str, portion: Portion, tokenizer: Tokenizer) -> Work:
    """Start with an empty shard and a new tokenizer, which is saved."""
    for path in folder.iterdir():
        path.unlink()
    sums = {name: write_through(folder / name, [content]).sha256 for name, content in tokenizer.files().items()}
    return Work(tokenizer, sums, ShardWriter(folder / shard, tokenizer.vocab_size), portion.start)


def go_on(folder: Path, shard: str) -> Work | None:
    """What was begun in `folder`, or None where that is nothing, or was damaged."""
    try:
        remove_litter(folder)
        begun = unsealed(read_bytes(folder / PROGRESS))
        sums: dict[str, str] = begun["tokenizer"]
        if any(hashlib.sha256(read_bytes(folder / name, LARGE)).hexdigest() != sums[name] for name in sums):
            return None
        tokenizer = Tokenizer.load(folder)
        position = int(begun["position"])
        writer = ShardWriter(folder / shard, tokenizer.vocab_size, Written(**begun["shard"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return Work(tokenizer, sums, writer, position)


def record(folder: Path, work: Work) -> None:
    """Force the shard to the disk, then say how far it is."""
    shard = dataclasses.asdict(work.shard.sync())
    progress = {"position": work.position, "shard": shard, "tokenizer": work.sums}
    write_atomically(folder / PROGRESS, sealed(progress))


def tokenise(
    work: Work,
    portion: Portion,
    n_threads: int,
    n_bytes: int | None = None,
    done: Callable[[], None] = lambda: None,
    read: Callable[[], None] = lambda: None,
) -> None:
    """Write the ids of `portion`, from where `work` is to its end, to the shard.

    `done` is called after every `n_bytes`, when all ids so far are written; `read` after every part that is read.
    """

    def parts() -> Iterator[Part]:
        last = portion.end if n_bytes is None else work.position + n_bytes
        for text, ends in Portion(portion.corpus, work.position, portion.end).parts():
            yield text, ends
            work.position += len(text.encode())
            read()
            if work.position >= last:
                return

    while work.position < portion.end:
        for ids in work.tokenizer.encode_parts(parts(), n_threads):
            work.shard.write(ids)
        done()
