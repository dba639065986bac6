"""Cutting a long text into parts that can be tokenized one by one, giving the ids of the whole.

A cut is safe where GPT-2's pattern always ends one word and begins the next, whatever stands around. White
space is never inside a word, only at its beginning, and of a run of white space before a word the last sign
alone belongs to what follows. Letters go on with letters alone. So these three places are safe:
    before white space that follows anything else           hello| world
    before the last sign of white space before a word       hello  | world
    after a letter, before a sign that is none              hello|, world
The second keeps parts short even in a text of a million spaces, where the pattern would run out of its
limit for going back (1,000,000 signs).

Half a million signs without any such place (one word of so many letters, a line of another script) are cut all the
same: else a file of one endless word would have to be held in memory. Only there the ids may differ from the whole's.
"""

import re
from collections.abc import Iterable, Iterator

PART_LENGTH = 1 << 18  # characters: long enough to keep a thread busy, far below the limit above
LONGEST = 1 << 19  # characters of a part, where no place is safe

# Python counts U+001C-001F as white space and the pattern's engine does not: they are avoided as the place
# to cut. Letters are ASCII's: of others the two may know different sets.
_SAFE = re.compile(r"(?<=\S)[^\S\x1c-\x1f]|[^\S\x1c-\x1f](?=\S)|(?<=[A-Za-z])(?=[!-@[-`{-~])")


def cut(text: str, n_characters: int = PART_LENGTH) -> Iterator[str]:
    """Yield consecutive parts of `text`, each cut at the first safe place after `n_characters`.

    Joined they are `text`, and their ids joined are its ids.
    """
    return cut_stream([text], n_characters)


def cut_stream(blocks: Iterable[str], n_characters: int = PART_LENGTH) -> Iterator[str]:
    """The same of a text that comes in blocks, holding no more than a block and a part."""
    rest = ""
    for block in blocks:
        rest += block
        start = 0
        while len(rest) - start > n_characters:
            place = _SAFE.search(rest, start + n_characters, start + max(LONGEST, n_characters))
            if place is None and len(rest) - start <= LONGEST:
                break
            end = place.start() if place else start + LONGEST
            yield rest[start:end]
            start = end
        rest = rest[start:]
    if rest:
        yield rest
