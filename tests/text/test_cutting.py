from hypothesis import given, settings
from hypothesis import strategies as st
from text_samples import VERDICT, examples, strings

from glassgpt.text.cutting import cut
from glassgpt.text.tokenizer import Tokenizer


@settings(examples, max_examples=200)
@given(text=strings, n_characters=st.integers(1, 12))
def test_the_ids_of_the_parts_are_the_ids_of_the_whole(
    tokenizers: dict[str, Tokenizer], text: str, n_characters: int
) -> None:
    gpt2 = tokenizers["gpt2"]
    parts = list(cut(text, n_characters))
    assert "".join(parts) == text
    assert [i for part in parts for i in gpt2.encode(part)] == gpt2.encode(text)


def test_parts_are_about_as_long_as_asked_for() -> None:
    parts = list(cut(VERDICT, 100))
    assert len(parts) > 100
    assert all(100 <= len(part) < 130 for part in parts[:-1])


def test_a_text_without_white_space_stays_whole_and_no_text_has_no_parts() -> None:
    assert list(cut("x" * 1000, 10)) == ["x" * 1000]
    assert list(cut("", 10)) == []


def test_endless_white_space_is_cut_before_its_last_sign() -> None:
    assert list(cut(" " * 50 + "x", 10)) == [" " * 49, " x"]
