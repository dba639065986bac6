import pytest
from text_samples import VERDICT

from glassgpt.settings import InputError
from glassgpt.text.kinds import auto_spec, parse_spec, train_tokenizer
from glassgpt.text.tokenizer import Tokenizer


def test_learned_ids_are_bytes_then_merges_then_end_of_text() -> None:
    tokenizer = train_tokenizer("bpe:300", [VERDICT])
    gpt2 = train_tokenizer("gpt2", [])
    assert tokenizer.kind == "bpe"
    assert tokenizer.vocab_size == 300
    assert [tokenizer.piece(i) for i in range(256)] == [gpt2.piece(i) for i in range(256)]
    assert [tokenizer.piece(256 + n) for n in range(43)] == [a + b for a, b in tokenizer.vocabulary.merges]
    assert tokenizer.end_of_text == 299


def test_learning_twice_gives_the_same_tokenizer() -> None:
    texts = VERDICT.split("\n")
    first, second = train_tokenizer("bpe:700", texts), train_tokenizer("bpe:700", iter(texts))
    assert first.fingerprint() == second.fingerprint()


def test_a_small_text_gives_fewer_tokens() -> None:
    assert train_tokenizer("bpe:5000", ["ab ab", "cd"]).vocab_size == 258
    assert train_tokenizer("bpe:5000", []).vocab_size == 257


def test_characters_come_first_sorted_and_are_single_tokens() -> None:
    tokenizer = train_tokenizer("chars", ["banana 世界\n", "é😀"])
    characters = sorted(set("banana 世界\né😀"))
    assert [tokenizer.piece(i).decode() for i in range(len(characters))] == characters
    assert tokenizer.encode("".join(characters)) == list(range(len(characters)))
    assert tokenizer.end_of_text == tokenizer.vocab_size - 1
    n_single = sum(character.isascii() for character in characters)
    n_beginnings = 2 + 2  # E4 B8 and E7 95; F0 9F and F0 9F 98
    assert tokenizer.vocab_size == len(characters) + n_beginnings + (256 - n_single) + 1
    assert tokenizer.decode(tokenizer.encode("zebra 丘")) == "zebra 丘"


def test_ids_of_bytes_are_their_values(tokenizers: dict[str, Tokenizer]) -> None:
    tokenizer = tokenizers["bytes"]
    assert tokenizer.encode("né\n") == list("né\n".encode())
    assert tokenizer.vocab_size == 257
    assert tokenizer.end_of_text == 256


def test_names_of_tokenizers_are_read() -> None:
    assert parse_spec("bpe:1024") == ("bpe", 1024)
    assert parse_spec(" GPT2 ") == ("gpt2", None)
    assert parse_spec("chars") == ("chars", None)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("word", "gpt2, bpe:N, chars or bytes"),
        ("", "gpt2, bpe:N, chars or bytes"),
        ("gpt-2", "did you mean gpt2"),
        ("characters", "did you mean chars"),
        ("byte", "did you mean bytes"),
        ("bpe", "for example bpe:1024"),
        ("bpe:", "for example bpe:1024"),
        ("bpe:abc", "for example bpe:1024"),
        ("bpe:-5", "for example bpe:1024"),
        ("bpe:1e3", "for example bpe:1024"),
        ("bpe:٣٠٠", "for example bpe:1024"),
        ("bpe:257", "from 258"),
        ("bpe:999999999999999999", "to 1000000"),
        ("chars:80", "write chars"),
    ],
)
def test_a_wrong_name_is_answered_with_the_rule(spec: str, words: str) -> None:
    with pytest.raises(InputError) as refused:
        train_tokenizer(spec, [])
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_automatic_choice_grows_with_the_text() -> None:
    assert auto_spec(0) == "chars"
    assert auto_spec(20_479) == "chars"
    assert auto_spec(100_000) == "bpe:512"
    assert auto_spec(1_115_394) == "bpe:1024"
    assert auto_spec(2_600_000) == "bpe:2048"
    assert auto_spec(10**12) == "bpe:16384"
    assert all(parse_spec(auto_spec(n)) for n in (64_000, 10**6, 10**9))
