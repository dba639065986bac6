"""The corpus against plain lists of strings."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from text_samples import mixed_text, strings

from glassgpt.text.corpus import Corpus, Full
from glassgpt.text.tokenizer import Tokenizer

documents = st.lists(st.lists(strings, min_size=1, max_size=4), max_size=8)
"""Documents, each of the pieces in which it is written."""


def normal(pieces: list[str]) -> str:
    """A document as the corpus keeps it."""
    text = "".join(pieces).replace("\r\n", "\n").replace("\r", "\n")
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def write(corpus: Corpus, pieces: list[str]) -> None:
    for piece in pieces:
        corpus.write(piece)
    corpus.end_document()


@pytest.mark.thorough
@settings(max_examples=200, deadline=None)
@given(written=documents)
def test_documents_come_back_and_are_counted(written: list[list[str]]) -> None:
    corpus = Corpus(keep_duplicates=True, max_ram=160)  # ten bytes in memory
    for pieces in written:
        write(corpus, pieces)
    expected = [text for text in map(normal, written) if text.strip()]
    assert [*corpus.documents()] == expected
    whole = "".join(expected)
    assert (corpus.n_documents, corpus.n_characters, corpus.n_bytes) == (
        len(expected), len(whole), len(whole.encode())
    )  # fmt: skip
    assert "".join(corpus.all().blocks()) == whole
    for first, end in itertools.combinations(range(0, len(whole) + 1, 3), 2):
        assert corpus.text(first, end) == whole[first:end]
        assert corpus.character_of(corpus.byte_of(first)) == first


@settings(max_examples=100, deadline=None)
@given(written=documents, length=st.integers(1, 20))
def test_parts_keep_the_ends_of_documents(written: list[list[str]], length: int) -> None:
    corpus = Corpus.of(map(normal, written))
    found = [""]
    for part, ends in corpus.all().parts(length):
        found[-1] += part
        found += [""] if ends else []
    assert [text for text in found if text] == [*corpus.documents()]


def test_words_are_what_stands_between_white_space() -> None:
    text = mixed_text(3000, seed=4).replace("\x1c", "").replace("\x85", "").replace("\u00a0", "").replace("\u3000", "")
    corpus = Corpus()
    write(corpus, [text[i : i + 7] for i in range(0, len(text), 7)])
    assert abs(corpus.n_words - len(text.split())) <= text.count("\x00") + 1, "a zero byte counts as white space"
    write(corpus, ["  three  small\twords\n"])
    write(corpus, ["one"])
    assert corpus.n_words == Corpus.of([text]).n_words + 4


def test_an_equal_document_is_counted_and_not_kept() -> None:
    corpus = Corpus()
    for text in ("one", "two", "one", " \n", "two", "three"):
        write(corpus, [text])
    assert [*corpus.documents()] == ["one", "two", "three"]
    assert corpus.n_duplicates == 2
    assert corpus.digest() == Corpus.of(["one", "two", "three"]).digest() != Corpus.of(["onet", "wo", "three"]).digest()


def test_what_a_file_wrote_can_be_taken_back() -> None:
    corpus = Corpus()
    write(corpus, ["before"])
    digest = corpus.digest()
    corpus.begin_file()
    for text in ("a" * 100_000, "before", "b", "half"):
        corpus.write(text)
        if text != "half":
            corpus.end_document()
    corpus.restart()
    assert ([*corpus.documents()], corpus.digest(), corpus.n_duplicates) == (["before"], digest, 0)
    assert (corpus.n_bytes, corpus.n_characters, corpus.n_words) == (6, 6, 1)
    write(corpus, ["b"])
    assert [*corpus.documents()] == ["before", "b"], "what was taken back is no earlier document"
    write(corpus, ["before"])
    assert corpus.n_duplicates == 1


def test_writing_ends_at_so_many_bytes_and_a_whole_character() -> None:
    for n_bytes, kept in ((4, "né🦊"[:2]), (6, "né"), (7, "né🦊")):
        corpus = Corpus(max_bytes=n_bytes)
        corpus.write("né🦊z")
        with pytest.raises(Full):
            corpus.end_document()
        corpus.end_document()
        assert [*corpus.documents()] == [kept]


def test_a_large_text_is_learned_from_in_parts_that_lie_all_over_it() -> None:
    places = [f"place{n:03} " * 130_000 for n in range(12)]  # 1.2 MB each
    corpus = Corpus(max_ram=240 * 2000)
    write(corpus, places)
    learned_from = [*corpus.all().sample()]
    assert len(learned_from) == len("".join(places).encode()) // 2**20 + 1, "few different words: all is taken"
    noise = Corpus(max_ram=240 * 2000)
    write(noise, [f"{n:08} " for n in range(1_000_000)])
    (first,) = noise.all().sample()
    assert len(first) == 2**20, "many different words: no more than memory allows, and a block at least"


@pytest.mark.thorough
@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_ids_of_a_corpus_are_those_of_its_documents(tokenizers: dict[str, Tokenizer], n_threads: int) -> None:
    texts = [normal([mixed_text(n_fragments, seed=n)]) for n, n_fragments in enumerate((5, 3, 150_000, 1, 20_000))]
    for tokenizer in (tokenizers["gpt2"], tokenizers["bytes"]):
        expected: list[int] = []
        for text in texts:
            expected += [*tokenizer.encode(text), tokenizer.end_of_text]
        corpus = Corpus.of(texts)
        ids = [i for part in tokenizer.encode_parts(corpus.all().parts(), n_threads) for i in part.tolist()]
        assert ids == expected[:-1]
