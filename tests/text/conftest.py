"""The tokenizers that the tests of this room share."""

import pytest
from text_samples import LEARNED_FROM

from glassgpt.text.kinds import train_tokenizer
from glassgpt.text.tokenizer import Tokenizer

KINDS = {
    "gpt2": ("gpt2", []),
    "bytes": ("bytes", []),
    "bpe on verdict": ("bpe:1024", LEARNED_FROM["verdict"]),
    "bpe on mixed": ("bpe:1024", LEARNED_FROM["mixed"]),
    "bpe on runs": ("bpe:1024", LEARNED_FROM["runs"]),
    "chars on verdict": ("chars", LEARNED_FROM["verdict"]),
    "chars on mixed": ("chars", LEARNED_FROM["mixed"]),
}


@pytest.fixture(scope="session")
def tokenizers() -> dict[str, Tokenizer]:
    """A tokenizer of each kind; BPE and characters learned from several texts."""
    return {name: train_tokenizer(spec, texts) for name, (spec, texts) in KINDS.items()}


@pytest.fixture(params=KINDS)
def tokenizer(request: pytest.FixtureRequest, tokenizers: dict[str, Tokenizer]) -> Tokenizer:
    """Each of the tokenizers in turn."""
    return tokenizers[request.param]
