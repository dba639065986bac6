"""One text on a runner, alone and with nothing around it: what `generate` does where there is no second request."""

from collections.abc import Iterator, Sequence

from glassgpt.generation.runner import Runner
from glassgpt.generation.sampling import Sampling
from glassgpt.generation.sequence import Request, Step, TokenSequence, check_prompt
from glassgpt.generation.speculation import MOST, DraftCost, guessed_cost

MOST_ROWS = 512
"""Tokens of a prompt in one forward pass."""


def generate_on(
    runner: Runner,
    ids: Sequence[int],
    *,
    max_new_tokens: int,
    sampling: Sampling,
    stop: int | None = None,
    sequence: int = 0,
    speculate: bool = True,
    cost: DraftCost | None = None,
) -> Iterator[Step]:
    """`generate_with_logits` on the runner's slot 0: each new token, and the scores (V,) that it was chosen from, which
    may be overwritten when the next token is asked for.

    The text is the same with and without drafts (`speculate`). `cost` is what they cost on this runner; left out, it is
    guessed from the model's size.

    Raises InputError, before the first token, for a prompt that is empty, too long or holds an unknown id.
    """
    check_prompt(runner.config, ids, max_new_tokens)
    request = Request(ids=ids, max_new_tokens=max_new_tokens, sampling=sampling, stop=stop, speculate=speculate)
    return _write(runner, TokenSequence(runner.config, request, sequence), cost or guessed_cost(runner.config))


def _write(runner: Runner, text: TokenSequence, cost: DraftCost) -> Iterator[Step]:
    # The native decoder has a call for a single token, which makes no arrays: half the time of a small model.
    forward_one = getattr(runner, "next", None)
    while text.finished is None:
        text.move_window()
        n_rows = min(text.n_pending, MOST_ROWS)
        draft = text.draft(MOST, cost) if n_rows == text.n_pending else []
        if forward_one and text.n_pending == 1 and not draft:
            logits = (forward_one(0, text.kept - text.start, text.ids[-1]),)
        else:
            logits = runner.forward((text.span(n_rows, draft),))
        length = len(text.ids)
        text.take(n_rows, logits, draft)
        yield from zip(text.ids[length:], logits)
