"""The tokenizer: text -> ids -> text, as fast as tiktoken.

The text of a special token, such as <|endoftext|>, is ordinary text here and becomes ordinary tokens,
unless the caller asks otherwise: what people type or what a corpus quotes must not end a document.
"""

import gc
import re
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import tiktoken

from glassgpt.settings import InputError
from glassgpt.text import tokenizer_files
from glassgpt.text.cutting import PART_LENGTH, cut
from glassgpt.text.vocabulary import GPT2_SPLIT, Kind, Vocabulary

Ids = np.ndarray[tuple[int], np.dtype[Any]]

AHEAD = 8
"""Tasks for each thread that may wait, so that none is idle while the ids of one are written."""


class Tokenizer:
    """Byte-level BPE with GPT-2's splitting pattern.

    `kind` says how the vocabulary came about: "gpt2", "bpe" (learned), "chars" or "bytes".
    `vocab_size` counts all ids, special tokens included.
    `end_of_text` is the id of the token that separates documents.
    """

    def __init__(self, kind: Kind, vocabulary: Vocabulary) -> None:
        self.kind: Kind = kind
        self.vocabulary = vocabulary
        self.vocab_size = len(vocabulary.pieces)
        self.end_of_text = vocabulary.special[vocabulary.end_of_text]
        self._piece_of_id = dict(enumerate(vocabulary.pieces))
        longest_first = sorted(vocabulary.special, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, longest_first)))
        # GPT-2's ids are the ranks: its file was made so.
        ranks, self._id_of_rank = (vocabulary.ordinary(), None) if kind == "gpt2" else _ranks(vocabulary)
        # Special tokens are found here, not by tiktoken. It gets one that is never allowed, with an id that
        # no token has: without any it would look for an empty name at every character, at half the speed.
        self._encoding = tiktoken.Encoding(
            kind,
            pat_str=GPT2_SPLIT,
            mergeable_ranks=ranks,
            special_tokens={vocabulary.end_of_text: self.vocab_size},
        )

    def encode(self, text: str, *, allow_special: bool = False) -> list[int]:
        """The ids of `text`.

        With `allow_special`, the names of special tokens in the text become those tokens. A lone surrogate,
        which no UTF-8 file can hold, is read as U+FFFD.
        """
        if not allow_special:
            return self._encode_ordinary(text)
        ids: list[int] = []
        start = 0
        for found in self._special.finditer(text):
            ids += self._encode_ordinary(text[start : found.start()])
            ids.append(self.vocabulary.special[found.group()])
            start = found.end()
        return ids + self._encode_ordinary(text[start:])

    def encode_to_numpy(self, text: str, n_threads: int = 2) -> Ids:
        """The ids of `text` as an array (n_tokens,): uint16 where the vocabulary allows it, else uint32.

        A long text is cut into parts that `n_threads` threads work on; the ids do not depend on it.
        """
        if len(text) <= PART_LENGTH:
            return self._encode_part(text)
        return np.concatenate([*self.encode_parts(((part, False) for part in cut(text)), n_threads)])

    def encode_parts(self, parts: Iterable[tuple[str, bool]], n_threads: int = 2) -> Iterator[Ids]:
        """The ids of parts that follow each other, as arrays, while they come in; a few megabytes are held at a time.

        Where the second value of a part is true, the token that separates documents comes after it.
        """
        separator = np.array([self.end_of_text], self._dtype)

        def encode(task: list[tuple[str, bool]]) -> Ids:
            found: list[Ids] = []
            for part, is_separated in task:
                found += [self._encode_part(part), separator][: 1 + is_separated]
            return np.concatenate(found)

        # Threads of their own, while this one reads on and writes: where it encoded too, two threads sometimes met in
        # one copy of the pattern's engine, which doubled the processor time of both.
        with ThreadPoolExecutor(n_threads) as pool:
            waiting: deque[Future[Ids]] = deque()
            try:
                for task in _tasks(parts):
                    waiting.append(pool.submit(encode, task))
                    if len(waiting) > AHEAD * n_threads:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of the ids. Raises InputError for an id that the vocabulary does not have."""
        try:
            return b"".join([self._piece_of_id[i] for i in ids])
        except KeyError as unknown:
            raise InputError(
                f"id {unknown.args[0]} is no token: this tokenizer has the ids 0 to {self.vocab_size - 1}"
            ) from None

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the ids; bytes that are no valid UTF-8, such as half a character, become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def piece(self, token_id: int) -> bytes:
        """The bytes of one token; of a special token, its name."""
        return self.decode_bytes([token_id])

    def token_bytes(self) -> Ids:
        """How many bytes of text each id stands for, (vocab_size,) int64; 0 for special tokens.

        Their sum over the targets is what a loss in nats is divided by to get bits per byte.
        """
        lengths = np.fromiter(map(len, self.vocabulary.pieces), np.int64, self.vocab_size)
        lengths[list(self.vocabulary.special.values())] = 0
        return lengths

    def fingerprint(self) -> str:
        """SHA-256 of the vocabulary and its merges: equal for two tokenizers that give equal ids."""
        return self.vocabulary.fingerprint

    def files(self) -> dict[str, bytes]:
        """The Hugging Face files of this tokenizer, name -> content."""
        return tokenizer_files.to_files(self.kind, self.vocabulary)

    def save(self, directory: Path) -> None:
        """Write the Hugging Face files into `directory`, which is made if it is missing."""
        directory.mkdir(parents=True, exist_ok=True)
        for name, content in self.files().items():
            (directory / name).write_bytes(content)

    @classmethod
    def load(cls, directory: Path) -> "Tokenizer":
        """Open the tokenizer of any Hugging Face directory that is byte-level BPE with GPT-2's pattern.

        Raises InputError where there is none, where it is of another sort, or where its files are damaged.
        """
        collects = gc.isenabled()
        gc.disable()  # it would look through a hundred thousand new objects again and again, none of which can go
        try:
            return cls(*tokenizer_files.from_directory(directory))
        finally:
            if collects:
                gc.enable()

    @property
    def _dtype(self) -> type[np.uint16] | type[np.uint32]:
        return np.uint16 if self.vocab_size <= 1 << 16 else np.uint32

    def _encode_ordinary(self, text: str) -> list[int]:
        ranks = [rank for part in cut(text) for rank in self._encoding.encode_ordinary(part)]
        return ranks if self._id_of_rank is None else self._id_of_rank[ranks].tolist()

    def _encode_part(self, part: str) -> Ids:
        try:
            ids = self._encoding.encode_to_numpy(part, disallowed_special=())
        except UnicodeEncodeError:  # a lone surrogate
            ids = np.array(self._encoding.encode_ordinary(part))
        return (ids if self._id_of_rank is None else self._id_of_rank[ids]).astype(self._dtype)


def _tasks(parts: Iterable[tuple[str, bool]]) -> Iterator[list[tuple[str, bool]]]:
    """Parts in groups that keep a thread busy."""
    task: list[tuple[str, bool]] = []
    n_characters = 0
    for part in parts:
        if n_characters >= PART_LENGTH:
            yield task
            task = [part]
            n_characters = 0
        else:
            task.append(part)
        n_characters += len(part[0])
    if task:
        yield task


def _ranks(vocabulary: Vocabulary) -> tuple[dict[bytes, int], Ids | None]:
    """Piece -> rank for tiktoken, which merges the lowest rank first and gives ranks as ids.

    Where ids rise with the order of the merges, rank and id are the same number. Else the ranks are
    numbered by merges, and the second value maps rank -> id. Pieces that no merge makes are left out: they
    never arise.
    """
    id_of_piece = vocabulary.ordinary()
    single_bytes = [bytes([value]) for value in range(256)]
    merged = [left + right for left, right in vocabulary.merges]
    merged_ids = [id_of_piece[piece] for piece in merged]
    if merged_ids == sorted(merged_ids):
        return {piece: id_of_piece[piece] for piece in single_bytes + merged}, None
    ranks = {piece: rank for rank, piece in enumerate(single_bytes + merged)}
    return ranks, np.array([id_of_piece[piece] for piece in ranks])
