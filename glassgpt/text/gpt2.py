"""GPT-2's own vocabulary, which comes with the package: 50,257 tokens, no network needed.

The packaged file is OpenAI's `vocab.bpe`, compressed (its licence lies beside it). Each line is a merge;
the pieces are the 256 bytes followed by what the merges make, in order.
"""

import functools
import gzip
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from glassgpt.text.alphabet import BYTES_IN_ORDER, to_pieces
from glassgpt.text.vocabulary import END_OF_TEXT, GPT2_SPLIT, Vocabulary


def vocab_bpe() -> bytes:
    """OpenAI's file `vocab.bpe`, byte for byte (456,318 bytes)."""
    return gzip.decompress(Path(__file__).with_name("gpt2_vocab.bpe.gz").read_bytes())


class _Merges(Sequence[tuple[bytes, bytes]]):
    """Merges, taken apart when they are asked for: to tokenize takes only what they make."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines

    @functools.cached_property
    def _pairs(self) -> tuple[tuple[bytes, bytes], ...]:
        parts = to_pieces(" ".join(self._lines).split(" "))
        return tuple(zip(parts[::2], parts[1::2], strict=True))

    def __len__(self) -> int:
        return len(self._lines)

    def __getitem__(self, place: Any) -> Any:
        return self._pairs[place]

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return iter(self._pairs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and self._pairs == tuple(other)

    __hash__: None = None  # as of anything that may equal a list


def gpt2_vocabulary() -> Vocabulary:
    """GPT-2's vocabulary: ids 0-255 are bytes, 256-50255 merges, 50256 is <|endoftext|>."""
    lines = vocab_bpe().decode("utf-8").splitlines()[1:]  # the first line only states a version
    made = to_pieces([line.replace(" ", "") for line in lines])
    pieces = (*BYTES_IN_ORDER, *made, END_OF_TEXT.encode())
    return Vocabulary(pieces, _Merges(lines), {END_OF_TEXT: len(pieces) - 1})


def gpt2_encoding() -> dict[str, Any]:
    """The arguments of `tiktoken.Encoding` for GPT-2: what an entry of tiktoken's registry returns."""
    vocabulary = gpt2_vocabulary()
    return {
        "name": "gpt2",
        "pat_str": GPT2_SPLIT,
        "mergeable_ranks": vocabulary.ordinary(),
        "special_tokens": dict(vocabulary.special),
        "explicit_n_vocab": len(vocabulary.pieces),
    }
