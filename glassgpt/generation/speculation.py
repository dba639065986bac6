"""Drafts for free: text that repeats itself has already said how it goes on (Saxena 2023, prompt lookup decoding).

A forward pass over several tokens costs less than several passes. So we guess the next tokens, score the guess in one
pass, and keep what the sampler would have chosen anyway: it depends on nothing but the scores and (seed, sequence,
position), so the text is what it would be without drafts, at every temperature.

A guess is what followed the last time that the text was at this point. The longer it has agreed with then, the surer
the guess: of each length of agreement we keep how often the next token agreed as well. This costs no pass, it is read
off the text whether drafts were made or not, so on a text that does not repeat itself none are made.
"""

from dataclasses import dataclass

from glassgpt.config import GPTConfig
from glassgpt.planning.parameters import total_parameters

LONGEST = 16
"""Tokens of agreement that are told apart; more count as so many."""
MOST = 15
"""Tokens in a draft."""
NEWEST = 0.1
"""Weight of the newest token in how often a guess was right."""
PATIENCE = 32
"""Tokens written without a look at the text, where the looks before found nothing to draft,"""
RECENT = 16
"""and of these so many are then taken in: on a model of 25 us a token, even the look at each would be felt."""


@dataclass(frozen=True)
class DraftCost:
    """A pass with a draft of n tokens takes 1 + first + n * row times as long as a pass with none."""

    row: float
    first: float = 0.0


def guessed_cost(config: GPTConfig) -> DraftCost:
    """What drafts cost, from the model's size. How fast a text is written depends on this guess, the text does not.

    Where the weights come from memory, reading them is the cost, and more rows share it; a model that fits the
    processor's cache computes, and each row costs. On two cores 8 rows cost about 3 times one row at 1 million
    parameters and up to 1.5 times at 124 million. `first` is what a runner's call for a single token, where it has
    one (`next`), saves of what is around a pass.
    """
    small = min(1.0, 4e6 / total_parameters(config))
    return DraftCost(row=0.35 * small**0.6, first=1.0 * small)


class NgramDrafts:
    """Guesses how the text `ids` goes on, a list that its owner appends to."""

    def __init__(self, ids: list[int]) -> None:
        self._ids = ids
        self._n_read = 0
        self._after_one: dict[int, int] = {}  # a token -> where the text went on after it the last time
        self._after_three: dict[tuple[int, int, int], int] = {}
        self._match = 0  # the text before this place agrees with its end; 0: no such place
        self._length = 0  # in so many tokens, up to LONGEST
        self._rates = [0.5] * (LONGEST + 1)  # by length: how often the token at the match was the next one
        self._pause = self._tokens_to_wait = 1

    def propose(self, n_most: int, cost: DraftCost) -> list[int]:
        """Up to `n_most` tokens that pay, or none; to be asked once for each pass over the end of the text."""
        self._tokens_to_wait -= 1
        if self._tokens_to_wait > 0:
            return []
        hopeful = self._read(cost.first + cost.row)
        n = self._best_length(min(n_most, MOST), cost) if self._match else 0
        self._pause = 1 if n or hopeful else min(2 * self._pause, PATIENCE)
        self._tokens_to_wait = self._pause
        draft = self._ids[self._match : self._match + n]
        return (draft * n)[:n]  # a match near the end: the text runs in a circle of this length

    def _best_length(self, n_most: int, cost: DraftCost) -> int:
        """How many tokens to draft for the most tokens in a pass's time.

        A draft of n gives 1 + p1 + p1 p2 + ... + p1 ... pn tokens in the time 1 + first + n * row.
        """
        tokens = chance = pace = best = 1.0
        n_best = 0
        for n in range(1, n_most + 1):
            chance *= self._rates[min(self._length + n - 1, LONGEST)]
            if chance <= pace * cost.row:
                break  # one more takes more time than it is worth, and the next ones are worth less
            tokens += chance
            pace = tokens / (1 + cost.first + n * cost.row)
            if pace > best:
                n_best, best = n, pace
        return n_best

    def _read(self, price: float) -> bool:
        """Take in what was written since the last time; whether one drafted token would have been worth its price."""
        ids, rates = self._ids, self._rates
        match, length, hopeful = self._match, self._length, False
        start = max(1, self._n_read)
        if self._n_read and len(ids) - start > RECENT:
            start, match, length = len(ids) - RECENT, 0, 0
        before, last = ids[start - 2 : start] if start > 1 else (-1, ids[0])
        for place in range(start, len(ids)):
            token = ids[place]
            if match:
                rate = rates[length]
                hopeful = hopeful or rate > price
                if ids[match] == token:
                    rates[length] = rate + NEWEST * (1 - rate)
                    match += 1
                    length = min(length + 1, LONGEST)
                else:
                    rates[length] = rate - NEWEST * rate
                    match = length = 0
            trigram = before, last, token
            if length < 3:  # otherwise it follows the place that it agrees with
                match = self._after_three.get(trigram) or self._after_one.get(token, 0)
                length = self._agreement(match, place + 1) if match else 0
            self._after_three[trigram] = self._after_one[token] = place + 1
            before, last = last, token
        self._match, self._length, self._n_read = match, length, len(ids)
        return hopeful

    def _agreement(self, left: int, right: int) -> int:
        """Number of equal tokens before the two places, up to LONGEST."""
        ids = self._ids
        n = 0
        while n < min(left, LONGEST) and ids[left - n - 1] == ids[right - n - 1]:
            n += 1
        return n
