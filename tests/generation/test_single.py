"""One text on a runner: the text of the plain generator, chunks and beginnings refused as there."""

import pytest
from exact_runner import ExactRunner

from glassgpt.generation.sampling import Sampling
from glassgpt.generation.single import generate_on
from glassgpt.settings import InputError

GREEDY = Sampling(temperature=0)


def test_a_long_prompt_is_read_in_pieces_and_each_token_costs_one_row() -> None:
    runner = ExactRunner(context_length=1200, vocab_size=50)
    prompt = [n % 50 for n in range(1100)]
    written = list(generate_on(runner, prompt, max_new_tokens=4, sampling=GREEDY, speculate=False))
    assert runner.rows == [512, 512, 76, 1, 1, 1]
    assert [span.n_logits for (span,) in runner.passes] == [0, 0, 1, 1, 1, 1]
    assert len(written) == 4


def test_tokens_come_as_they_are_chosen() -> None:
    runner = ExactRunner()
    steps = generate_on(runner, [1, 2], max_new_tokens=9, sampling=GREEDY, speculate=False)
    assert runner.passes == []
    for n in range(1, 5):
        next(steps)
        assert len(runner.passes) == n


@pytest.mark.parametrize(
    ("prompt", "n", "message"),
    [
        ([], 5, "the prompt has no tokens"),
        ([1] * 13, 5, "the prompt has 13 tokens, but .*context_length is 12: leave out the first 1"),
        ([7], 5, "token 7 is not in the model's vocabulary of 7"),
        ([1], 0, "max_new_tokens is 0, but must be at least 1"),
    ],
)
def test_a_prompt_that_cannot_be_continued_is_refused_before_the_first_token(prompt, n, message) -> None:
    with pytest.raises(InputError, match="^" + message):
        generate_on(ExactRunner(), prompt, max_new_tokens=n, sampling=GREEDY)
