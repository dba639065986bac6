from pathlib import Path

import pytest

from glassgpt.config import DataConfig
from glassgpt.data.prepare import MANY_DOCUMENTS, encode_corpus, open_prepared, prepare, split
from glassgpt.settings import InputError
from glassgpt.text.corpus import Corpus, Portion
from glassgpt.text.stories import write_stories


def documents(*texts: str) -> Corpus:
    return Corpus.of(texts)


def texts_of(portion: Portion) -> list[str]:
    """The documents in a portion, or the part of each that is in it."""
    texts = [""]
    for part, ends in portion.parts():
        texts[-1] += part
        texts += [""] if ends else []
    return texts


STORY = "\n".join(write_stories(60, seed=3))


def test_the_last_tenth_of_the_characters_is_validation_and_unseen_by_the_tokenizer(tmp_path: Path) -> None:
    text = STORY[:900] + "ž" * 100  # a character that only validation has
    prepared = prepare(documents(text), DataConfig(tokenizer="chars"), tmp_path)
    assert prepared.tokenizer.decode(prepared.train.tolist()) == text[:900]
    assert prepared.tokenizer.decode(prepared.val.tolist()) == text[900:]
    assert prepared.tokenizer.piece(0).decode() == min(text[:900])
    assert len(prepared.val) == 200, "ž has no token of its own: two bytes each"


def test_a_text_is_prepared_once_and_found_again_by_its_content(tmp_path: Path) -> None:
    config = DataConfig(tokenizer="bpe:300")
    first = prepare(documents(STORY), config, tmp_path)
    written = (first.directory / "train.shard").stat().st_mtime_ns
    again = prepare(documents(STORY), config, tmp_path)
    assert again.directory == first.directory
    assert (again.directory / "train.shard").stat().st_mtime_ns == written
    assert prepare(documents(STORY + "!"), config, tmp_path).directory != first.directory
    assert prepare(documents(STORY), DataConfig(tokenizer="bytes"), tmp_path).directory != first.directory
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_documents_are_joined_by_one_separator(tmp_path: Path) -> None:
    prepared = prepare(documents("one two three. " * 9, "four five six. " * 9), DataConfig(tokenizer="bytes"), tmp_path)
    end = prepared.tokenizer.end_of_text
    assert [*prepared.train].count(end) == 1
    assert end not in (prepared.train[0], prepared.train[-1])
    ids = encode_corpus(documents("a", "b"), prepared.tokenizer)
    assert ids.tolist() == [97, end, 98]


def test_the_words_of_a_special_token_in_a_text_stay_words(tmp_path: Path) -> None:
    prepared = prepare(documents("a <|endoftext|> b " * 40), DataConfig(tokenizer="bpe:300"), tmp_path)
    assert prepared.tokenizer.end_of_text not in prepared.train
    assert prepared.tokenizer.end_of_text not in prepared.val


def test_many_documents_are_kept_whole() -> None:
    texts = [f"document {number} " * (number + 1) for number in range(MANY_DOCUMENTS)]
    train, val = map(texts_of, split(documents(*texts), 0.1))
    assert train + val == texts
    assert sum(map(len, train)) <= 0.9 * sum(map(len, texts))


def test_few_documents_are_cut_at_a_character() -> None:
    train, val = map(texts_of, split(documents("a" * 50, "b" * 50), 0.25))
    assert (train, val) == (["a" * 50, "b" * 25], ["b" * 25])


@pytest.mark.parametrize("name", ["train.shard", "val.shard", "tokenizer.json", "prepared.json"])
def test_a_damaged_prepared_text_is_named_and_where_the_text_is_there_prepared_again(tmp_path: Path, name: str) -> None:
    prepared = prepare(documents(STORY), DataConfig(tokenizer="bytes"), tmp_path)
    path = prepared.directory / name
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    with pytest.raises(InputError) as error:
        open_prepared(prepared.directory)
    assert name in str(error.value)
    said: list[str] = []
    prepare(documents(STORY), DataConfig(tokenizer="bytes"), tmp_path, phase=said.append)
    assert said[0].startswith("preparing the text again, since ")
    assert name in said[0]
    assert path.read_bytes() == whole


def test_a_text_too_short_to_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the text has 5 characters, too few"):
        prepare(documents("short"), DataConfig(), tmp_path)
