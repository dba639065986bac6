"""A vocabulary: all that a byte-level BPE tokenizer knows.

Text is first split into words by one pattern (GPT-2's), then every word is taken as UTF-8 bytes, and
neighbours are merged, the most important merge first, until no merge applies (Sennrich et al. 2016; on
bytes: Radford et al. 2019). What is left are the pieces; their numbers are the ids. Because each of the 256
bytes is a piece, any text has ids. All four kinds of tokenizer here have this one form and differ only in
their pieces and merges.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Mapping, Sequence
from typing import Literal

Kind = Literal["gpt2", "bpe", "chars", "bytes"]
"""GPT-2's own vocabulary, one learned by BPE, characters, or single bytes."""

END_OF_TEXT = "<|endoftext|>"

# GPT-2's splitting pattern: contractions, letters, numbers and other signs (each with one space before it
# if there is one), white space. Possessive quantifiers ("++") match the same text and never backtrack.
GPT2_SPLIT = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Pieces by id, merges by importance, special tokens by name.

    `pieces[id]` are the bytes of token `id`; of a special token, the UTF-8 bytes of its name.
    `merges` are pairs of pieces; together each makes another piece. The first is the most important.
    `special` maps the name of each special token to its id; no text ever becomes one by itself.
    `end_of_text` names the special token that separates documents.
    """

    pieces: tuple[bytes, ...]
    merges: Sequence[tuple[bytes, bytes]]
    special: Mapping[str, int]
    end_of_text: str = END_OF_TEXT

    def ordinary(self) -> dict[bytes, int]:
        """Piece -> id of every token that is not special, in the order of the ids. Made once: do not change it."""
        return self._ordinary

    @functools.cached_property
    def _ordinary(self) -> dict[bytes, int]:
        special = set(self.special.values())
        return {piece: number for number, piece in enumerate(self.pieces) if number not in special}

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of pieces, merges and special tokens: equal for vocabularies that give equal ids."""
        digest = hashlib.sha256()
        for part in (self.pieces, *zip(*self.merges), [self.end_of_text.encode()]):
            digest.update(len(part).to_bytes(8, "big"))
            digest.update(b"".join([len(piece).to_bytes(4, "big") + piece for piece in part]))
        for name, number in sorted(self.special.items(), key=lambda item: item[1]):
            digest.update(number.to_bytes(4, "big") + name.encode())
        return digest.hexdigest()


def with_end_of_text(pieces: list[bytes], merges: list[tuple[bytes, bytes]]) -> Vocabulary:
    """The vocabulary of these pieces with <|endoftext|> as its one special token and last id."""
    return Vocabulary((*pieces, END_OF_TEXT.encode()), tuple(merges), {END_OF_TEXT: len(pieces)})
