import numpy as np
import pytest

from glassgpt.inspection.text_health import TextHealth, repeated_share


def test_a_passage_that_comes_again_is_counted_from_its_second_time() -> None:
    once = np.random.default_rng(1).integers(0, 500, 1000).astype(np.uint16)
    assert repeated_share(once, 20) == 0.0
    assert repeated_share(np.tile(once, 4), 20) == pytest.approx(0.75, abs=0.01)
    assert repeated_share(once[:20], 20) == 0.0


def test_passages_of_the_same_tokens_in_another_order_are_others() -> None:
    ids = np.array([1, 2, 2, 1, 1, 1, 2, 2, 2], np.uint16)
    windows = {tuple(ids[place : place + 3]) for place in range(7)}
    assert repeated_share(ids, 3) == pytest.approx(1 - len(windows) / 7)


def test_tokens_are_counted_as_they_are_used() -> None:
    counts = {"train_tokens": 90, "val_tokens": 10, "bytes": 300, "characters": 200}
    facts = {"tokenizer": "bpe:512", "vocab_size": 512} | counts
    found = TextHealth.of(np.arange(90, dtype=np.uint16) % 30, facts)
    assert (found.used, found.tokens_per_character, found.bytes_per_token) == (30, 0.5, 3.0)
