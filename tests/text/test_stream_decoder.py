import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from text_samples import examples, strings

from glassgpt.settings import InputError
from glassgpt.text.stream import StopStrings, StreamDecoder
from glassgpt.text.tokenizer import Tokenizer


@examples
@given(text=strings)
def test_text_leaves_in_whole_characters(tokenizer: Tokenizer, text: str) -> None:
    decoder = StreamDecoder(tokenizer)
    received = [decoder.feed([i]) for i in tokenizer.encode(text)]
    assert "".join(received) == text
    assert decoder.flush() == ""


@examples
@given(ids=st.lists(st.integers(0, 256)))
def test_joined_texts_equal_decoding_at_once(tokenizers: dict[str, Tokenizer], ids: list[int]) -> None:
    decoder = StreamDecoder(tokenizers["bytes"])
    assert "".join(decoder.feed([i]) for i in ids) + decoder.flush() == tokenizers["bytes"].decode(ids)


def test_half_a_character_at_the_end_is_a_replacement_sign(tokenizers: dict[str, Tokenizer]) -> None:
    decoder = StreamDecoder(tokenizers["bytes"])
    assert [decoder.feed([byte]) for byte in "é😀".encode()[:-1]] == ["", "é", "", "", ""]
    assert decoder.flush() == "\ufffd"


letters = st.text("ab\né😀", max_size=4)
stop_strings = st.lists(st.text("ab\né😀", min_size=1, max_size=4), max_size=4)


def before_the_first(strings: list[str], text: str) -> str:
    return text[: min((text.find(string) for string in strings if string in text), default=len(text))]


@settings(max_examples=500, deadline=None)
@given(st.lists(letters, max_size=12), stop_strings)
def test_a_text_in_pieces_ends_where_the_whole_one_has_its_first_stop_string(
    pieces: list[str], strings: list[str]
) -> None:
    stop = StopStrings(strings)
    received = "".join(map(stop.feed, pieces)) + stop.flush()
    assert received == before_the_first(strings, "".join(pieces))
    assert stop.found == (received != "".join(pieces))


@settings(max_examples=500, deadline=None)
@given(st.lists(letters, max_size=12), stop_strings)
def test_only_what_may_begin_a_stop_string_is_held_back(pieces: list[str], strings: list[str]) -> None:
    stop, arrived, received = StopStrings(strings), "", ""
    for piece in pieces:
        arrived, received = arrived + piece, received + stop.feed(piece)
        if stop.found:
            break
        assert arrived.startswith(received)
        held = arrived.removeprefix(received)
        assert not held or any(string.startswith(held) for string in strings)
        assert not any(string in received for string in strings)


@examples
@given(text=strings, data=st.data())
def test_a_stop_string_is_found_across_tokens_and_inside_them(
    tokenizer: Tokenizer, text: str, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, max(0, len(text) - 1)))
    stop = StopStrings([text[start : start + 3] or "none"])
    decoder = StreamDecoder(tokenizer)
    received = "".join(stop.feed(decoder.feed([i])) for i in tokenizer.encode(text))
    assert received + stop.flush() == before_the_first(list(stop.strings), text)


def test_an_empty_stop_string_is_refused() -> None:
    with pytest.raises(InputError, match=r"^a stop string is empty"):
        StopStrings(["a", ""])
