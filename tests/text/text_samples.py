"""Texts to learn from and strings to try: many scripts, code, white space, the names of special tokens."""

import random
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from glassgpt.text.stories import write_stories

VERDICT = (Path(__file__).parents[2] / "notebooks" / "the-verdict.txt").read_text(encoding="utf-8")

FRAGMENTS = [
    "<|endoftext|>", "<|", "|>", "endoftext", "<|im_end|>",
    " ", "  ", "   \n", "\n\n", "\t", "\r\n", "\x00", "\x1c", "\x85", "\u00a0", "\u3000", "\u200b", "\ufeff",
    "'s", "'ll", "'LL", "’re", "don't", "hello", " world", "the", " The", "aaaaaaa", "ababababa",
    "0", "12345", "½", "٣", "{", "}};", "==", "def f(x):\n    return x\n", "https://a.b/c?d=e",
    "é", "e\u0301", "Straße", "Привет", "שלום", "नमस्ते", "世界", "日本語", "한국어",
    "😀", "👩‍👩‍👧‍👦", "🏳️‍🌈", "\U0010ffff",
]  # fmt: skip

strings = st.one_of(st.text(), st.lists(st.sampled_from(FRAGMENTS)).map("".join))
"""Any Unicode string, and strings made of pieces that tokenizers are known to stumble over."""

shared_fixtures = [HealthCheck.function_scoped_fixture]  # no test alters them, so all examples may share
examples = settings(max_examples=50, deadline=None, suppress_health_check=shared_fixtures)
"""How many strings are tried with each tokenizer."""


def mixed_text(n_fragments: int, seed: int) -> str:
    """Fragments, runs of one fragment, and characters from anywhere in Unicode."""
    generator = random.Random(seed)
    parts = []
    for _ in range(n_fragments):
        parts.append(generator.choice(FRAGMENTS) * generator.choice([1, 1, 1, 2, 9]))
        anywhere = [generator.randrange(0xD800), generator.randrange(0xE000, 0x110000)]
        parts.append(chr(generator.choice(anywhere)))
        parts.append(generator.choice(["", " ", "\n"]))
    return "".join(parts)


LEARNED_FROM = {
    "verdict": [VERDICT],
    "mixed": [mixed_text(4_000, seed=1), *write_stories(50, seed=1)],
    "runs": ["a" * n + "b" * (n % 7) + " " + "ab" * n + "aab" * n for n in range(150)],
}
"""One language; many; and runs of the same letters, where merges overlap."""
