"""How much of a text was copied: equal to asking `in` for every window, whatever the blocks."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glassgpt.evaluation.copied import AROUND, LENGTHS, LONGEST, copied
from glassgpt.text.stories import write_stories

SOURCE = "\n".join(write_stories(60, seed=3))
OTHER = "\n".join(write_stories(60, seed=4))


def shares_by_asking(outputs: list[str], text: str) -> dict[int, float]:
    shares = {}
    for least in LENGTHS:
        covered = 0
        for output in outputs:
            starts = {n for n in range(len(output) - least + 1) if output[n : n + least] in text}
            covered += sum(any(at - k in starts for k in range(least)) for at in range(len(output)))
        shares[least] = covered / max(1, sum(map(len, outputs)))
    return shares


def in_blocks(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


@settings(deadline=None, max_examples=60)
@given(
    pieces=st.lists(
        st.tuples(st.integers(0, 3000), st.integers(1, 160), st.text("aé🙂\n", max_size=9)), min_size=1, max_size=6
    ),
    size=st.sampled_from([331, 997, 10**6]),
)
def test_the_shares_are_those_of_asking_for_every_window(pieces, size):
    outputs = [SOURCE[start : start + length] + own for start, length, own in pieces]
    found = copied(outputs, in_blocks(SOURCE, size))
    assert found.shares == pytest.approx(shares_by_asking(outputs, SOURCE))
    assert found.n_searched == len(SOURCE)
    assert found.n_characters == sum(map(len, outputs))


@settings(deadline=None)
@given(output=st.text("ab", max_size=80), text=st.text("ab", max_size=300))
def test_a_monotonous_text_is_no_trouble(output, text):
    assert copied([output], [text]).shares[25] == pytest.approx(shares_by_asking([output], text)[25])


def test_what_was_written_anew_is_not_called_copied():
    assert copied([OTHER], [SOURCE]).shares[100] == pytest.approx(shares_by_asking([OTHER], SOURCE)[100])
    assert copied(["0123456789" * 20], [SOURCE]).shares == dict.fromkeys(LENGTHS, 0.0)


def test_the_longest_copies_come_with_their_source():
    at, length = 1234, 300
    outputs = ["own words, ", "and so: " + SOURCE[at : at + length] + "!?" + SOURCE[50:90]]
    found = copied(outputs, in_blocks(SOURCE, 500))
    first, second = found.longest[:2]
    assert (first.text, first.output, first.start, first.source) == (SOURCE[at : at + length], 1, 8, at)
    assert first.before == SOURCE[at - AROUND : at]
    assert second.text == SOURCE[50:90]
    assert found.passages == [(1, 8, 8 + length), (1, 10 + length, 50 + length)]


def test_a_copy_never_runs_from_one_output_into_the_next():
    assert copied([SOURCE[100:120], SOURCE[120:140]], [SOURCE]).shares == dict.fromkeys(LENGTHS, 0.0)


def test_a_very_long_copy_is_all_counted():
    long = "".join(f"{n} " for n in range(4 * LONGEST // 5))
    assert copied([long], in_blocks(long, 1000)).shares[100] == 1.0


def test_it_stops_when_time_is_up():
    answers = iter([True, False])
    assert copied([SOURCE[:100]], in_blocks(SOURCE, 700), lambda: next(answers)).n_searched == 1400


def test_nothing_was_written():
    assert copied([], [SOURCE]).shares == dict.fromkeys(LENGTHS, 0.0)
    assert copied([""], []).longest == []
