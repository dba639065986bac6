import math

import numpy as np
import pytest
import torch

from glassgpt.config import GPTConfig
from glassgpt.evaluation.bits_per_byte import Stopped, evaluate
from glassgpt.model import GPTModel
from glassgpt.settings import InputError

CONFIG = GPTConfig(vocab_size=20, context_length=8, embedding_dim=8, n_heads=2, n_layers=1, dropout_rate=0.2)
BYTES = np.array([0, *range(1, 20)])  # token 0 is a separator


def slow_nats(model: GPTModel, ids: np.ndarray) -> float:
    """Window by window, target by target, as the definition is written."""
    total = 0.0
    for start in range(0, len(ids) - 1, CONFIG.context_length):
        window = ids[start : start + CONFIG.context_length + 1]
        logits = model(torch.from_numpy(window[None, :-1].astype(np.int64)))[0].double()
        for position, target in enumerate(window[1:]):
            scores = logits[position]
            total += float(scores.logsumexp(0) - scores[int(target)])
    return total


@pytest.mark.parametrize("n", [2, 8, 9, 10, 17, 100, 8 * 1024 + 5])
def test_all_windows_count_also_the_last_short_one(n: int) -> None:
    torch.manual_seed(1)
    model = GPTModel(CONFIG).eval()
    ids = np.random.default_rng(n).integers(0, 20, n).astype(np.uint16)
    found = evaluate(model, ids, BYTES)
    with torch.no_grad():
        assert found.nats == pytest.approx(slow_nats(model, ids), rel=1e-6)
    assert found.tokens == n - 1
    assert found.bytes == BYTES[ids[1:]].sum(), "the first token is context only, separators have no bytes"
    assert found.bits_per_byte == pytest.approx(found.nats / math.log(2) / max(1, found.bytes))


def test_a_model_that_knows_nothing_needs_the_logarithm_of_its_vocabulary() -> None:
    model = GPTModel(CONFIG)
    torch.nn.init.zeros_(model.output_head.weight)
    found = evaluate(model, np.arange(1, 20, dtype=np.uint16), np.ones(20, dtype=np.int64))
    assert found.loss == pytest.approx(math.log(20))
    assert found.perplexity == pytest.approx(20)
    assert found.bits_per_byte == pytest.approx(math.log2(20))


def test_dropout_is_off_while_evaluating_and_the_mode_is_put_back() -> None:
    model = GPTModel(CONFIG).train()
    ids = np.arange(20, dtype=np.uint16)
    assert evaluate(model, ids, BYTES) == evaluate(model, ids, BYTES)
    assert model.training


def test_what_cannot_be_evaluated_is_refused() -> None:
    model = GPTModel(CONFIG)
    with pytest.raises(InputError, match="has 1 tokens"):
        evaluate(model, np.array([3], dtype=np.uint16), BYTES)
    with pytest.raises(InputError, match="token id 20 is outside the model's vocabulary of 20"):
        evaluate(model, np.array([3, 20], dtype=np.uint16), BYTES)
    with pytest.raises(Stopped):
        evaluate(model, np.arange(20, dtype=np.uint16), BYTES, stop=lambda: True)
