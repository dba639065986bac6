"""A text that is tokenised in portions has the ids that it has as a whole."""

import random
from pathlib import Path

import pytest

from glassgpt.config import DataConfig
from glassgpt.data.prepare import prepare
from glassgpt.text.corpus import Corpus


@pytest.mark.thorough
@pytest.mark.parametrize("n_bytes", [1, 700_000, 10**9])
def test_portions_of_any_size_give_the_same_shards(tmp_path: Path, n_bytes: int) -> None:
    chance = random.Random(3)
    words = ["the", "Füße", "文字", "a", "🙂", "don't", "1234", "\n\n", "..."]
    corpus = Corpus.of(" ".join(chance.choices(words, k=chance.choice([5, 300, 90_000]))) for _ in range(30))
    whole = prepare(corpus, DataConfig(tokenizer="bpe:300"), tmp_path / "whole")
    said: list[str] = []
    inside = prepare(
        corpus, DataConfig(tokenizer="bpe:300"), tmp_path / "parts", 2, said.append, long=10**6, n_bytes=n_bytes
    )  # fmt: skip
    assert "tokenising the text, 90 % done" in said
    for name in ("train.shard", "val.shard", "prepared.json"):
        assert (inside.directory / name).read_bytes() == (whole.directory / name).read_bytes()
