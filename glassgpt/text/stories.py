"""Stories with a known entropy: a synthetic text on which it is certain how well the best model can do.

A small grammar writes them by independent random choices. Each choice can be read back from the text, so
the information in a story is exactly the sum of its choices, -log2 of their probabilities, and no model can
reach fewer bits per byte on average. A model that has learned the grammar reaches it: every choice depends
only on the sentence it stands in.
"""

import math
import random

# Each slot has words of unequal probability: a model must learn the numbers, not only the words.
SLOTS: dict[str, dict[str, float]] = {
    "animal": {"fox": 0.25, "owl": 0.25, "bear": 0.125, "mouse": 0.125, "otter": 0.125, "raven": 0.125},
    "size": {"small": 0.5, "big": 0.25, "old": 0.125, "young": 0.125},
    "place": {"river": 0.25, "forest": 0.25, "hill": 0.25, "garden": 0.125, "village": 0.125},
    "thing": {"stone": 0.25, "apple": 0.25, "lamp": 0.25, "book": 0.125, "drum": 0.0625, "key": 0.0625},
    "colour": {"red": 0.5, "blue": 0.25, "green": 0.125, "white": 0.125},
    "mood": {"happy": 0.5, "tired": 0.25, "brave": 0.25},
}

OPENING = "Once there was a {size} {animal}."
ENDING = " All was well in the {place}.\n"

# After every sentence but the last comes one of these, with this probability.
SENTENCES: dict[str, float] = {
    " The {animal} went to the {place}.": 0.25,
    " It found a {colour} {thing} by the {place}.": 0.25,
    " Soon a {size} {animal} came along.": 0.125,
    " Now everyone was {mood}.": 0.125,
    " Then they shared the {thing}.": 0.125,
    ENDING: 0.125,
}


def write_stories(n: int, seed: int) -> list[str]:
    """`n` stories; the same seed gives the same stories everywhere.

    Python's generator gives the same `random()` on all platforms and versions.
    """
    generator = random.Random(seed)
    return [_write_story(generator) for _ in range(n)]


def information_bits(story: str) -> float:
    """The information in one story: -log2 of the probability that the grammar writes it.

    Raises ValueError for a text that the grammar cannot write.
    """
    bits, rest = _read_sentence(OPENING, story)
    template = ""
    while template != ENDING:
        template = _chosen(SENTENCES, rest)
        sentence_bits, rest = _read_sentence(template, rest)
        bits += sentence_bits - math.log2(SENTENCES[template])
    if rest:
        raise ValueError(f"the story goes on after its end: {rest!r}")
    return bits


def entropy_bits_per_byte() -> float:
    """The expected information of a story divided by its expected length in bytes, computed from the grammar.

    The number of sentences after the opening is geometric, with mean 1 / P(ending); by Wald's equation the
    expected total over them is this mean times the expectation of one.
    """
    n_sentences = 1 / SENTENCES[ENDING]
    bits = _expected_bits(OPENING) + n_sentences * sum(
        p * (_expected_bits(template) - math.log2(p)) for template, p in SENTENCES.items()
    )
    n_bytes = _expected_bytes(OPENING) + n_sentences * sum(
        p * _expected_bytes(template) for template, p in SENTENCES.items()
    )
    return bits / n_bytes


def _write_story(generator: random.Random) -> str:
    sentences = [_write_sentence(OPENING, generator)]
    template = ""
    while template != ENDING:
        template = _draw(SENTENCES, generator)
        sentences.append(_write_sentence(template, generator))
    return "".join(sentences)


def _write_sentence(template: str, generator: random.Random) -> str:
    return "".join(_draw(SLOTS[part], generator) if is_slot else part for part, is_slot in _parts(template))


def _read_sentence(template: str, text: str) -> tuple[float, str]:
    """The bits of the slots of a sentence at the beginning of `text`, and the text after the sentence."""
    bits = 0.0
    for part, is_slot in _parts(template):
        word = _chosen(SLOTS[part], text) if is_slot else part
        if not text.startswith(word):
            raise ValueError(f"the grammar writes {word!r} where the text has {text[:40]!r}")
        bits -= math.log2(SLOTS[part][word]) if is_slot else 0.0
        text = text[len(word) :]
    return bits, text


def _expected_bits(template: str) -> float:
    slots = [SLOTS[part] for part, is_slot in _parts(template) if is_slot]
    return sum(-p * math.log2(p) for slot in slots for p in slot.values())


def _expected_bytes(template: str) -> float:
    """Every sign of the grammar is ASCII, one byte."""
    return sum(
        sum(p * len(word) for word, p in SLOTS[part].items()) if is_slot else len(part)
        for part, is_slot in _parts(template)
    )


def _parts(template: str) -> list[tuple[str, bool]]:
    """Fixed text and slots in turn: "a {size} fox." is ("a ", False), ("size", True), (" fox.", False)."""
    pieces = template.replace("}", "{").split("{")
    return [(piece, n % 2 == 1) for n, piece in enumerate(pieces)]


def _draw(options: dict[str, float], generator: random.Random) -> str:
    """One option by its probability."""
    point = generator.random()
    for option, probability in options.items():
        point -= probability
        if point < 0:
            return option
    return option


def _chosen(options: dict[str, float], text: str) -> str:
    """The one option whose fixed beginning the text begins with. Raises ValueError unless it is one."""
    fits = [option for option in options if text.startswith(option.split("{")[0])]
    if len(fits) != 1:
        raise ValueError(f"the grammar has {len(fits)} ways to go on with {text[:40]!r}")
    return fits[0]
