"""What looks wrong with the text of a run, and with how it was cut into tokens."""

from collections.abc import Iterator

from glassgpt.inspection.finding import Finding, RunRecord

REPEATED = 0.5
"""Share of a text that came before, from which on there is little to learn from it."""
GAIN = 0.03
"""By which share a text with any order in it becomes easier for who knows the last two tokens."""
UNUSED, LARGE_VOCABULARY = 0.75, 1024
"""Share of a vocabulary at least so large that no token of the text needs."""
TOKENS_PER_CHARACTER = 1.05
"""A tokenizer that suits its text never has more tokens than there are characters."""


def repetitive(record: RunRecord) -> Iterator[Finding]:
    text = record.text
    if text and text.repeated > REPEATED:
        yield Finding(
            "repetitive", "the text repeats itself",
            f"{text.repeated:.0%} of its passages of some 100 bytes stand further up already",
            "remove what is there more than once; the score tells how well it repeats, not how well it writes",
        )  # fmt: skip


def noise(record: RunRecord) -> Iterator[Finding]:
    counted, score = record.ngrams, record.score
    if counted and score and min(counted.values()) > (1 - GAIN) * counted["1"] and score > (1 - GAIN) * counted["1"]:
        yield Finding(
            "noise", "there is nothing to learn in this text beyond how often each token comes",
            f"{counted['1']:.3f} bits per byte by how often each comes, {counted['3']:.3f} by what it follows; this "
            f"model {score:.3f}",
            "look at the text: is it compressed, encrypted, shuffled, or a table of numbers?",
        )  # fmt: skip


def tokenizer(record: RunRecord) -> Iterator[Finding]:
    text = record.text
    if not text:
        return
    unused = 1 - text.used / text.vocab_size
    if text.tokens_per_character > TOKENS_PER_CHARACTER:
        yield Finding(
            "unsuited_tokenizer", "the tokenizer does not suit the text",
            f"{text.tokenizer} needs {text.tokens_per_character:.2f} tokens a character; what it was made for is "
            "another script",
            "train one on this text: --tokenizer auto, or bpe:N",
        )  # fmt: skip
    elif text.vocab_size >= LARGE_VOCABULARY and unused > UNUSED:
        yield Finding(
            "unsuited_tokenizer", "most of the vocabulary is never used",
            f"{text.used:,} of {text.vocab_size:,} tokens of {text.tokenizer} occur in the training text",
            "take a smaller vocabulary, made on this text: --tokenizer auto",
        )  # fmt: skip
