"""Ids that arrive one by one, text that leaves in whole characters."""

import codecs
from collections.abc import Iterable

from glassgpt.text.tokenizer import Tokenizer


class StreamDecoder:
    """Decode ids as they are generated.

    A token may end inside a character (an emoji has four bytes); such bytes are held back until the
    character is complete. All texts returned, joined, equal `tokenizer.decode` of all ids.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, ids: Iterable[int]) -> str:
        """Take the next ids; return the text that they complete, possibly empty."""
        return self._decoder.decode(self._tokenizer.decode_bytes(ids))

    def flush(self) -> str:
        """End the text: return a replacement sign for bytes that never became a character, or nothing."""
        return self._decoder.decode(b"", final=True)
