"""Cutting a long text into parts that can be tokenized one by one, giving the ids of the whole.

A cut is safe where GPT-2's pattern always ends one word and begins the next, whatever stands around. White
space is never inside a word, only at its beginning, and of a run of white space before a word the last sign
alone belongs to what follows. So these two places are safe:
    before white space that follows anything else           hello| world
    before the last sign of white space before a word       hello  | world
The second keeps parts short even in a text of a million spaces, where the pattern would run out of its
limit for going back (1,000,000 signs).
"""

import re
from collections.abc import Iterator

PART_LENGTH = 1 << 18  # characters: long enough to keep a thread busy, far below the limit above

# Python counts U+001C-001F as white space and the pattern's engine does not: they are avoided as the place
# to cut.
_SAFE = re.compile(r"(?<=\S)[^\S\x1c-\x1f]|[^\S\x1c-\x1f](?=\S)")


def cut(text: str, n_characters: int = PART_LENGTH) -> Iterator[str]:
    """Yield consecutive parts of `text`, each cut at the first safe place after `n_characters`.

    Joined they are `text`, and their ids joined are its ids. A text without white space stays whole.
    """
    start = 0
    while start < len(text):
        place = _SAFE.search(text, start + n_characters)
        end = place.start() if place else len(text)
        yield text[start:end]
        start = end
