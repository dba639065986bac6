import dataclasses
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from text_samples import FRAGMENTS, VERDICT, examples, mixed_text, strings

from glassgpt.settings import InputError
from glassgpt.text.bpe import train_bpe
from glassgpt.text.gpt2 import gpt2_vocabulary
from glassgpt.text.tokenizer import Tokenizer
from glassgpt.text.vocabulary import Vocabulary


@examples
@given(text=strings)
def test_every_string_comes_back(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.decode(tokenizer.encode(text, allow_special=True)) == text


@examples
@given(text=strings)
def test_typed_text_never_becomes_a_special_token(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.end_of_text not in tokenizer.encode(text)
    n_allowed = tokenizer.encode(text, allow_special=True).count(tokenizer.end_of_text)
    assert n_allowed == text.count("<|endoftext|>")


@examples
@given(text=strings)
def test_the_lengths_of_the_tokens_sum_to_the_bytes_of_the_text(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.token_bytes()[ids].sum() == len(text.encode())


def test_special_tokens_stand_for_no_text(tokenizer: Tokenizer) -> None:
    lengths = tokenizer.token_bytes()
    assert lengths.shape == (tokenizer.vocab_size,)
    assert lengths[tokenizer.end_of_text] == 0
    assert (lengths > 0).sum() == tokenizer.vocab_size - 1
    assert tokenizer.piece(tokenizer.end_of_text) == b"<|endoftext|>"


def test_an_array_holds_the_same_ids_however_long_the_text_is(tokenizer: Tokenizer) -> None:
    for text in ("", "short", VERDICT, mixed_text(25_000, seed=5)):
        ids = tokenizer.encode_to_numpy(text)
        assert ids.dtype == np.uint16
        assert ids.tolist() == tokenizer.encode(text)
        assert ids.tolist() == tokenizer.encode_to_numpy(text, n_threads=1).tolist()


@pytest.mark.thorough
def test_a_vocabulary_beyond_65536_ids_needs_32_bits() -> None:
    gpt2 = gpt2_vocabulary()
    more = tuple(f"<|extra{n}|>".encode() for n in range(65_537 - 50_257))
    special = {name.decode(): 50_257 + n for n, name in enumerate(more)} | gpt2.special
    large = Tokenizer("gpt2", dataclasses.replace(gpt2, pieces=gpt2.pieces + more, special=special))
    assert large.encode_to_numpy("hello").dtype == np.uint32
    assert large.encode("<|extra7|>", allow_special=True) == [50_264]


ENDLESS = [" " * 1_500_000 + "x", " \n" * 750_000 + "x", "\n" * 1_200_000, "a" * 600_000]


@pytest.mark.parametrize("text", ENDLESS, ids=["spaces", "lines", "line ends", "letters"])
def test_a_text_of_one_endless_word_or_gap_is_read(tokenizers: dict[str, Tokenizer], text: str) -> None:
    gpt2 = tokenizers["gpt2"]
    assert gpt2.decode(gpt2.encode_to_numpy(text)) == text


def test_a_lone_surrogate_is_read_as_the_replacement_sign(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode("a\ud800b")) == "a\ufffdb"
    assert tokenizer.encode_to_numpy("a\ud800b").tolist() == tokenizer.encode("a\ufffdb")


def test_bytes_that_are_no_text_are_shown_as_the_replacement_sign(tokenizers: dict[str, Tokenizer]) -> None:
    tokenizer = tokenizers["bytes"]
    assert tokenizer.decode_bytes([0xE4, 0xB8, 65]) == b"\xe4\xb8A"
    assert tokenizer.decode([0xE4, 0xB8, 65]) == "\ufffdA"


@pytest.mark.parametrize("unknown", [-1, 257, 10**9])
def test_an_id_outside_the_vocabulary_is_refused(tokenizers: dict[str, Tokenizer], unknown: int) -> None:
    with pytest.raises(InputError, match=f"id {unknown} is no token.*0 to 256"):
        tokenizers["bytes"].decode([65, unknown])


def test_ids_of_numpy_are_ids(tokenizers: dict[str, Tokenizer]) -> None:
    assert tokenizers["bytes"].decode(np.array([72, 105], np.uint16)) == "Hi"


def test_ids_need_not_follow_the_order_of_the_merges(tokenizers: dict[str, Tokenizer]) -> None:
    """Some tools number the pieces in another order; then ids are the same tokens under other numbers."""
    ours = tokenizers["bpe on mixed"]
    n = ours.vocab_size
    reversed_ids = Vocabulary(
        ours.vocabulary.pieces[::-1], ours.vocabulary.merges, {"<|endoftext|>": n - 1 - ours.end_of_text}
    )
    other = Tokenizer("bpe", reversed_ids)
    text = mixed_text(200, seed=8)
    expected = [n - 1 - i for i in ours.encode(text)]
    assert other.encode(text) == other.encode_to_numpy(text).tolist() == expected
    assert other.encode("") == other.encode_to_numpy("").tolist() == []
    assert other.decode(expected) == text
    assert other.fingerprint() != ours.fingerprint()


def test_fingerprints_tell_tokenizers_apart(tokenizers: dict[str, Tokenizer]) -> None:
    assert len({tokenizer.fingerprint() for tokenizer in tokenizers.values()}) == len(tokenizers)
    assert Tokenizer("gpt2", gpt2_vocabulary()).fingerprint() == tokenizers["gpt2"].fingerprint()


def slow_merge(piece: bytes, merges: list[tuple[bytes, bytes]]) -> list[bytes]:
    """The plain algorithm: while listed pairs stand side by side, merge the first of the most important."""
    parts = [piece[i : i + 1] for i in range(len(piece))]
    importance = {pair: n for n, pair in enumerate(merges)}
    while found := [(importance[pair], i) for i, pair in enumerate(pairwise(parts)) if pair in importance]:
        _, i = min(found)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return parts


LETTERS = ["a", "b", "ab", "aa", "c", "世", "界"]


@examples
@given(
    texts=st.lists(st.lists(st.sampled_from(LETTERS + FRAGMENTS)).map("".join), max_size=20),
    word=st.lists(st.sampled_from(LETTERS), max_size=12).map("".join),
)
def test_merging_by_rank_equals_merging_by_pair_whatever_was_learned(texts: list[str], word: str) -> None:
    vocabulary = train_bpe(texts * 2, 400)
    made = [left + right for left, right in vocabulary.merges]
    assert len(set(made)) == len(made)
    for number, (left, right) in enumerate(vocabulary.merges):
        assert slow_merge(left + right, list(vocabulary.merges[:number])) == [left, right]
    tokenizer = Tokenizer("bpe", vocabulary)
    expected = slow_merge(word.encode(), list(vocabulary.merges))
    assert [tokenizer.piece(i) for i in tokenizer.encode(word)] == expected
