import math
from collections import Counter

import numpy as np
import pytest

from glassgpt.evaluation.ngrams import NGrams, ngram_bits_per_byte

Gram = tuple[int, ...]


def slow_probability(train: list[int], gram: Gram, order: int, vocab_size: int) -> float:
    """As the equation is written: of the last token of `gram` after the others, by a model of `order` tokens."""
    n = len(gram)
    if n == 0:
        return 1 / vocab_size

    def grams(length: int) -> list[Gram]:
        return [tuple(train[place : place + length]) for place in range(len(train) - length + 1)]

    counts = Counter(grams(n)) if n == order else Counter(longer[1:] for longer in set(grams(n + 1)))
    once, twice = (sum(count == times for count in counts.values()) for times in (1, 2))
    discount = once / (once + 2 * twice) if once and twice else 0.5
    lower = slow_probability(train, gram[1:], order, vocab_size) if n > 1 else 1 / vocab_size
    followed = {other: count for other, count in counts.items() if other[:-1] == gram[:-1]}
    total = sum(followed.values())
    if not total:
        return lower
    return (max(counts[gram] - discount, 0) + discount * len(followed) * lower) / total


def a_text(n: int, vocab_size: int, seed: int) -> np.ndarray:
    """Some tokens are frequent, the last never comes."""
    drawn = np.random.default_rng(seed).geometric(0.4, n) - 1
    return drawn.clip(0, vocab_size - 2).astype(np.uint16)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("n", [5, 60, 300])
def test_every_probability_is_that_of_the_equation(order: int, n: int) -> None:
    train, val = a_text(n, 7, seed=n), a_text(40, 7, seed=1)
    fast = NGrams(train, 7).probabilities(val, order)
    assert len(fast) == len(val) - 1
    for place, found in enumerate(fast, start=1):
        gram = tuple(int(token) for token in val[max(0, place - order + 1) : place + 1])
        assert found == pytest.approx(slow_probability([*map(int, train)], gram, order, 7), rel=1e-12)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("context", [(0, 0), (1, 0), (5, 4), (6, 6)], ids=str)
def test_the_probabilities_of_all_tokens_sum_to_one(order: int, context: tuple[int, int]) -> None:
    models = NGrams(a_text(200, 7, seed=3), 7)
    chances = [models.probabilities(np.array([*context, token]), order)[-1] for token in range(7)]
    assert sum(chances) == pytest.approx(1.0, abs=1e-12)
    assert min(chances) > 0, "what never came is possible too"


def test_a_text_of_equal_tokens_costs_what_chance_says() -> None:
    generator = np.random.default_rng(1)
    train, val = (generator.integers(0, 64, n).astype(np.uint16) for n in (200_000, 20_000))
    found = ngram_bits_per_byte(train, val, np.full(64, 2), 64)
    assert found["1"] == pytest.approx(3.0, rel=1e-3), "6 bits a token of 2 bytes"
    assert found["2"] == pytest.approx(3.0, rel=0.02)


def test_longer_memory_pays_where_the_text_has_it() -> None:
    train = np.tile(np.array([0, 1, 0, 2], np.uint16), 500)  # what follows 0 depends on what came before it
    found = ngram_bits_per_byte(train, train[:401], np.ones(3, np.int64), 3)
    assert found["1"] == pytest.approx(1.5, abs=0.01)
    assert found["2"] == pytest.approx(0.5, abs=0.01)
    assert found["3"] == pytest.approx(0.0, abs=0.01)


def test_separators_cost_bits_and_have_no_bytes() -> None:
    train, val = a_text(500, 7, seed=5), a_text(100, 7, seed=6)
    token_bytes = np.array([0, 1, 1, 1, 1, 1, 1])
    nats = -np.log(NGrams(train, 7).probabilities(val, 2)).sum()
    n_bytes = int((val[1:] != 0).sum())
    assert ngram_bits_per_byte(train, val, token_bytes, 7)["2"] == pytest.approx(nats / math.log(2) / n_bytes)


def test_the_first_tokens_are_counted_up_to_a_number() -> None:
    train, val, ones = a_text(900, 7, seed=7), a_text(100, 7, seed=8), np.ones(7, np.int64)
    assert ngram_bits_per_byte(train, val, ones, 7, 400) == ngram_bits_per_byte(train[:400], val, ones, 7)


def test_a_vocabulary_of_any_size_is_no_error() -> None:
    ids = np.array([2**21 - 1, 5, 2**21 - 1, 5, 2**21 - 1], np.uint32)
    assert ngram_bits_per_byte(ids, ids, np.ones(2**21, np.int64), 2**21)["3"] < 21
    assert ngram_bits_per_byte(ids, ids, np.ones(2**21 + 1, np.int64), 2**21 + 1) == {}
    assert ngram_bits_per_byte(ids[:2], ids, np.ones(2**21, np.int64), 2**21) == {}
