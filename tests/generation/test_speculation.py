"""Drafts: where they come from, when they are made, and that they change nothing but the number of passes."""

import random
from collections.abc import Sequence

import pytest
from exact_runner import ExactRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from glassgpt.config import PRESETS, GPTConfig
from glassgpt.generation.engine import Engine
from glassgpt.generation.sampling import Sampling
from glassgpt.generation.sequence import Request
from glassgpt.generation.single import generate_on
from glassgpt.generation.speculation import MOST, DraftCost, NgramDrafts, guessed_cost

GREEDY = Sampling(temperature=0)
FREE = DraftCost(0.0)
CIRCLE = [3, 1, 4, 1, 5, 9, 2, 6]


def passes_for(text: Sequence[int], n_prompt: int, row_cost: float) -> tuple[int, int]:
    """Passes and rows for a model that writes this text, whatever it is given."""
    ids = list(text[:n_prompt])
    drafts = NgramDrafts(ids)
    cost = DraftCost(row_cost)
    n_passes = n_rows = 0
    while len(ids) < len(text):
        draft = drafts.propose(len(text) - len(ids) - 1, cost)
        n_passes, n_rows = n_passes + 1, n_rows + 1 + len(draft)
        for guess in [*draft, None]:
            ids.append(text[len(ids)])
            if ids[-1] != guess:
                break
    return n_passes, n_rows


def follows_an_earlier_place(ids: list[int], draft: list[int]) -> bool:
    """Whether the draft is what followed some earlier token like the last one, in a circle if the text ends first."""
    for place in range(1, len(ids)):
        text = [*ids]
        for n in range(len(draft)):
            text.append(text[place + n])
        if ids[place - 1] == ids[-1] and text[len(ids) :] == draft:
            return True
    return False


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(1, 60), st.integers(0, 20), st.data())
def test_a_draft_is_what_followed_an_earlier_place_like_the_texts_end(ids, n_prompt, n_most, data) -> None:
    text = ids[:n_prompt]
    drafts = NgramDrafts(text)
    for token in ids[n_prompt:]:
        draft = drafts.propose(n_most, DraftCost(*data.draw(st.sampled_from([(0.0, 0.0), (0.1, 0.0), (0.3, 0.5)]))))
        assert len(draft) <= min(n_most, MOST)
        assert not draft or follows_an_earlier_place(text, draft)
        text.append(token)


def test_of_the_earlier_places_the_latest_of_the_longest_agreement_up_to_three_tokens_is_taken() -> None:
    assert NgramDrafts([1, 2, 3, 7, 9, 2, 3, 8, 0, 1, 2, 3]).propose(1, FREE) == [7]
    assert NgramDrafts([1, 2, 3, 7, 1, 2, 3, 8, 0, 1, 2, 3]).propose(1, FREE) == [8]
    assert NgramDrafts([3, 7, 0, 3, 8, 3]).propose(1, FREE) == [8]
    assert NgramDrafts([1, 2, 3]).propose(1, FREE) == []


def test_a_match_is_followed_as_long_as_it_holds() -> None:
    ids = [1, 2, 3, 4, 5, 6, 9, 3, 4, 5, 7, 8, 1, 2, 3]
    drafts = NgramDrafts(ids)
    assert drafts.propose(1, FREE) == [4]
    ids += [4, 5]  # three tokens agree with the later place, five with the one that is followed
    assert drafts.propose(1, FREE) == [6]


def test_a_text_in_a_circle_is_drafted_round_and_round() -> None:
    assert NgramDrafts([0, 7] + [8] * 5).propose(9, FREE) == [8] * 9
    assert NgramDrafts([0, *CIRCLE, *CIRCLE, *CIRCLE]).propose(12, FREE) == [*CIRCLE, *CIRCLE[:4]]


def test_a_text_that_repeats_takes_far_fewer_passes_and_drafts_grow_to_their_longest() -> None:
    text = [*range(100, 200), *CIRCLE * 50]
    n_passes, n_rows = passes_for(text, 100, row_cost=0.05)
    assert n_passes < len(CIRCLE * 50) / 8
    assert n_rows < 1.1 * len(CIRCLE * 50)


@pytest.mark.parametrize("vocab_size", [30, 1000])
@pytest.mark.parametrize("row_cost", [0.05, 0.3])
def test_a_text_without_repetition_has_hardly_a_draft(vocab_size: int, row_cost: float) -> None:
    text = random.Random(1).choices(range(vocab_size), k=2000)
    n_passes, n_rows = passes_for(text, 100, row_cost)
    assert n_passes + row_cost * (n_rows - n_passes) < 1.01 * 1900


def test_where_rows_cost_more_drafts_are_shorter_and_where_they_cost_a_pass_there_are_none() -> None:
    ids = random.Random(1).choices(range(100), k=20) * 2
    lengths = [len(NgramDrafts(list(ids)).propose(MOST, DraftCost(row_cost))) for row_cost in (0.0, 0.3, 1.0)]
    assert lengths[0] == MOST > lengths[1] > lengths[2] == 0


def test_after_a_text_begins_to_repeat_drafts_come_soon_though_none_was_made_for_long() -> None:
    rng = random.Random(2)
    fresh, piece = rng.choices(range(50000), k=1000), rng.choices(range(50000), k=200)
    n_passes, n_rows = passes_for(fresh + piece + piece, 100, 0.05)
    assert n_rows - n_passes > 150
    assert n_passes < 900 + 200 + 70


def test_where_leaving_the_single_token_call_costs_much_only_sure_drafts_are_made() -> None:
    ids = random.Random(1).choices(range(100), k=20) * 2
    assert NgramDrafts(list(ids)).propose(MOST, DraftCost(0.3)) != []
    assert NgramDrafts(list(ids)).propose(MOST, DraftCost(0.3, 1.0)) == []
    assert len(NgramDrafts(ids * 8).propose(MOST, DraftCost(0.1, 1.0))) == MOST


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=12),
    st.integers(1, 60),
    st.sampled_from([GREEDY, Sampling(temperature=1, seed=3), Sampling(temperature=0.5, repetition_penalty=1.5)]),
    st.none() | st.integers(0, 6),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.sampled_from([0.0, 0.05, 0.5]),
)
def test_text_and_scores_are_the_same_with_and_without_drafts(ids, n, sampling, stop, noise, row_cost) -> None:
    runner = ExactRunner(noise=noise)
    asked = {"max_new_tokens": n, "sampling": sampling, "stop": stop, "sequence": 1}
    drafted = list(generate_on(runner, ids, cost=DraftCost(row_cost), **asked))
    plain = list(generate_on(runner, ids, speculate=False, **asked))
    assert [token for token, _ in drafted] == [token for token, _ in plain]
    assert [scores.tolist() for _, scores in drafted] == [scores.tolist() for _, scores in plain]
    assert [token for token, _ in plain] == list(
        runner.alone(Request(ids=ids, max_new_tokens=n, sampling=sampling, stop=stop, sequence=1))
    )


def test_an_engine_that_writes_repeating_text_needs_half_the_passes_at_most() -> None:
    runner = ExactRunner(n_slots=3, context_length=400, noise=0)  # greedy text of the last token alone runs in a circle
    requests = [Request(ids=[token], max_new_tokens=200, sampling=GREEDY) for token in range(3)]
    Engine(runner, row_cost=0.1).run(requests)
    assert len(runner.passes) < 200 / 2


def test_the_guessed_cost_of_drafts_falls_with_the_models_size() -> None:
    character_model = GPTConfig(vocab_size=65, context_length=64, embedding_dim=128, n_heads=4, n_layers=4)
    assert guessed_cost(character_model) == DraftCost(0.35, 1.0)
    assert 0.02 < guessed_cost(GPTConfig.from_dict(PRESETS["gpt2-small"])).row < 0.07
