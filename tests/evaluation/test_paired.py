"""Student's t against published tables; how often equals get a verdict; that a real difference gets one."""

import math

import numpy as np
import pytest
import torch

from glassgpt.config import GPTConfig, OptimConfig
from glassgpt.data.batches import Batches
from glassgpt.evaluation.bits_per_byte import evaluate
from glassgpt.evaluation.paired import paired_difference, student_t_quantile, student_t_within
from glassgpt.model import GPTModel, initialise
from glassgpt.optim.groups import make_optimizer
from glassgpt.text.stories import write_stories
from glassgpt.training.step import NextTokenLoss, training_step


@pytest.mark.parametrize(
    ("probability", "degrees", "t"),
    [(0.95, 1, 12.706), (0.95, 2, 4.303), (0.95, 3, 3.182), (0.95, 4, 2.776), (0.95, 9, 2.262), (0.95, 30, 2.042),
     (0.99, 1, 63.657), (0.99, 4, 4.604), (0.99, 5, 4.032), (0.9, 10, 1.812), (0.95, 100_000, 1.960)],
)  # fmt: skip
def test_quantiles_are_those_of_the_tables(probability: float, degrees: int, t: float) -> None:
    assert student_t_quantile(probability, degrees) == pytest.approx(t, abs=6e-4)
    assert student_t_within(student_t_quantile(probability, degrees), degrees) == pytest.approx(probability, abs=1e-12)


def test_probabilities_are_those_of_the_closed_forms() -> None:
    for t in (0.0, 0.3, 1.0, 4.0, 50.0):
        assert student_t_within(t, 1) == pytest.approx(2 * math.atan(t) / math.pi, abs=1e-14)  # Cauchy's
        assert student_t_within(t, 2) == pytest.approx(t / math.sqrt(2 + t * t), abs=1e-14)


def test_a_clear_difference_gets_a_verdict_and_an_unclear_one_none() -> None:
    base = [2.00, 2.10, 1.90, 2.05, 1.95]
    lower = paired_difference(base, [b - d for b, d in zip(base, (0.10, 0.11, 0.09, 0.10, 0.12), strict=True)])
    assert (lower.verdict, round(lower.mean, 4)) == ("better", -0.104)
    assert lower.low < lower.mean < lower.high < 0
    assert paired_difference(base, [b + 0.1 * n for n, b in enumerate(base, 1)]).verdict == "cannot tell"
    assert paired_difference(base, [b + 0.1 + 0.01 * n for n, b in enumerate(base)]).verdict == "worse"
    same = paired_difference(base, base)
    assert (same.verdict, same.low, same.high, same.p_value) == ("cannot tell", 0, 0, 1)
    with pytest.raises(ValueError, match="two or more"):
        paired_difference([2.0], [2.1])


def test_several_comparisons_widen_the_interval() -> None:
    base, other = [2.0, 2.1, 1.9], [2.1, 2.25, 1.98]
    one, three = (paired_difference(base, other, comparisons) for comparisons in (1, 3))
    assert three.high - three.low > one.high - one.low
    assert three.p_value == pytest.approx(3 * one.p_value)
    half = student_t_quantile(1 - 0.05 / 3, 2) * np.std(three.differences, ddof=1) / math.sqrt(3)
    assert three.high == pytest.approx(three.mean + half)


def test_the_interval_holds_the_truth_in_95_of_100_and_equals_get_a_verdict_in_1_of_100() -> None:
    generator = np.random.default_rng(5)
    held = verdicts = 0
    for _ in range(3000):
        found = paired_difference([0.0] * 5, list(0.3 + generator.standard_normal(5)))
        held += found.low < 0.3 < found.high
        verdicts += paired_difference([0.3] * 5, found.differences).verdict != "cannot tell"
    assert 0.938 < held / 3000 < 0.962
    assert verdicts / 3000 < 0.016


def bits_per_byte(seed: int, init_seed: int, ids: np.ndarray, learning_rate: float = 3e-3) -> float:
    """What a tiny model reaches in ten steps: batches by `seed`, first weights by `init_seed`."""
    model = GPTModel(GPTConfig(vocab_size=256, context_length=32, embedding_dim=32, n_heads=2, n_layers=1))
    initialise(model, torch.Generator().manual_seed(init_seed))
    optim = OptimConfig(learning_rate=learning_rate, batch_size=8)
    optimizer, loss_of, batches = make_optimizer(model, optim), NextTokenLoss(model), Batches(ids[:-2000], 32, 8, seed)
    for step in range(10):
        training_step(loss_of, optimizer, *batches.batch(step), learning_rate=learning_rate, grad_clip=1.0)
    return evaluate(model, ids[-2000:], np.ones(256, np.int64)).bits_per_byte


@pytest.mark.thorough
def test_other_first_weights_get_no_verdict_in_19_of_20_and_a_hundredth_of_the_learning_rate_does() -> None:
    """The negative control: 20 comparisons of a setting with itself, where only chance differs, 5 seeds each."""
    ids = np.frombuffer("\n".join(write_stories(100, seed=1)).encode(), np.uint8)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        verdicts = []
        for number in range(20):
            seeds = range(5 * number, 5 * number + 5)
            ours = [bits_per_byte(seed, 2 * seed, ids) for seed in seeds]
            verdicts.append(paired_difference(ours, [bits_per_byte(s, 2 * s + 1, ids) for s in seeds]).verdict)
        slow = [bits_per_byte(seed, 2 * seed, ids, learning_rate=3e-5) for seed in seeds]
    finally:
        torch.set_num_threads(threads)
    assert verdicts.count("cannot tell") >= 19, verdicts
    assert paired_difference(ours, slow).verdict == "worse"
