"""Ids that arrive one by one, text that leaves in whole characters and ends before a stop string."""

import codecs
from collections.abc import Iterable

from glassgpt.settings import InputError
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


class StopStrings:
    """End a text before the first occurrence of any of the strings, while it arrives piece by piece.

    Only what may be the beginning of a stop string is held back. All texts returned, joined, equal the whole text up
    to the first place where a stop string begins, however it was cut into pieces.
    """

    def __init__(self, strings: Iterable[str] = ()) -> None:
        self.strings = tuple(strings)
        self.found = False
        """Whether the text has ended; nothing more is returned then."""
        self._held = ""
        if "" in self.strings:
            raise InputError("a stop string is empty, but must have at least one character: leave it out")

    def feed(self, text: str) -> str:
        """Take the next piece; return what can no longer belong to a stop string."""
        if self.found or not self.strings:
            return "" if self.found else text
        self._held += text
        whole, certain = self._first_whole(), self._first_beginning()
        if whole < len(self._held) and whole <= certain:
            return self._end()
        text, self._held = self._held[:certain], self._held[certain:]
        return text

    def flush(self) -> str:
        """End the text: return what was held back, up to a stop string in it."""
        return self._end()

    def _end(self) -> str:
        at = self._first_whole()
        text, self.found, self._held = self._held[:at], self.found or at < len(self._held), ""
        return text

    def _first_whole(self) -> int:
        """Where the first stop string begins, or the length of what is held."""
        places = (self._held.find(string) for string in self.strings)
        return min((place for place in places if place >= 0), default=len(self._held))

    def _first_beginning(self) -> int:
        """From where on the text held may be a stop string of which the rest has not come, or its length."""
        longest = max(map(len, self.strings))
        places = range(max(0, len(self._held) - longest + 1), len(self._held))
        ends = ((place, self._held[place:]) for place in places)
        return next((place for place, end in ends if any(s.startswith(end) for s in self.strings)), len(self._held))
