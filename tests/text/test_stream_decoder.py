from hypothesis import given
from hypothesis import strategies as st
from text_samples import examples, strings

from glassgpt.text.stream import StreamDecoder
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
