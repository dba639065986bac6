import math

import pytest

from glassgpt.text.stories import SENTENCES, SLOTS, entropy_bits_per_byte, information_bits, write_stories


def test_the_same_seed_gives_the_same_stories() -> None:
    assert write_stories(3, seed=1) == write_stories(3, seed=1)
    assert write_stories(3, seed=1) != write_stories(3, seed=2)
    assert write_stories(2, seed=1) == write_stories(3, seed=1)[:2]


def test_stories_are_the_same_on_every_platform() -> None:
    assert write_stories(1, seed=1) == [
        "Once there was a small otter. Then they shared the apple. It found a red lamp by the garden. "
        "The fox went to the garden. It found a green stone by the forest. Now everyone was happy. "
        "All was well in the village.\n"
    ]


def test_probabilities_sum_to_one() -> None:
    for options in (SENTENCES, *SLOTS.values()):
        assert sum(options.values()) == 1


def test_the_text_determines_every_choice() -> None:
    """No option begins with another one, so reading back never has two ways to go."""
    beginnings = [template.split("{")[0] for template in SENTENCES]
    for options in (beginnings, *map(list, SLOTS.values())):
        assert not [(a, b) for a in options for b in options if a is not b and b.startswith(a)]


def test_the_information_of_a_story_is_the_sum_of_its_choices() -> None:
    story = "Once there was a small fox. Now everyone was happy. All was well in the hill.\n"
    probability = (0.5 * 0.25) * (0.125 * 0.5) * (0.125 * 0.25)
    assert information_bits(story) == pytest.approx(-math.log2(probability))


def test_the_calculated_entropy_is_the_measured_mean() -> None:
    stories = write_stories(5_000, seed=123)
    measured = sum(map(information_bits, stories)) / sum(len(story.encode()) for story in stories)
    assert measured == pytest.approx(entropy_bits_per_byte(), rel=4e-3)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "the grammar writes"),
        ("Once there was a wide fox.", "0 ways to go on"),
        ("Once there was a small fox. Now everyone was", "0 ways to go on"),
        (write_stories(1, seed=0)[0] + "more", "goes on after its end"),
    ],
)
def test_a_text_that_the_grammar_cannot_write_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        information_bits(text)
