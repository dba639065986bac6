"""How much of the validation text stands in the training text too, as it does where a book is there in two drafts."""

from glassgpt.text.corpus import Portion

PASSAGES = 64
LENGTH = 80
"""Characters of a passage: long enough not to be said twice by chance."""
SEARCHED = 20_000_000
"""Bytes of the training text, at most."""


def overlap(train: Portion, val: Portion) -> float:
    """The share of passages of `val`, taken at equal distances, that occur in `train` word for word."""
    room = val.n_characters - LENGTH
    first = val.corpus.character_of(val.start)
    starts = (first + room * n // PASSAGES for n in range(PASSAGES if room > LENGTH else 0))
    sought = {val.corpus.text(start, start + LENGTH) for start in starts}
    n_passages, before, n_read = len(sought), "", 0
    for block in train.blocks():
        text = before + block
        sought -= {passage for passage in sought if passage in text}
        before = block[-LENGTH:]
        n_read += len(block)
        if not sought or n_read > SEARCHED:
            break
    return 1 - len(sought) / n_passages if n_passages else 0.0
