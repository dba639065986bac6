import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st
from text_samples import examples, strings

from glassgpt.settings import InputError
from glassgpt.text.alphabet import to_bytes, to_letters, to_pieces
from glassgpt.text.gpt2 import vocab_bpe
from glassgpt.text.tokenizer import Tokenizer
from glassgpt.text.tokenizer_files import GPT2_FILE

AS_PUBLISHED = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


@pytest.fixture(scope="session")
def opened(tokenizers: dict[str, Tokenizer], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Each tokenizer as AutoTokenizer opens it from the files that were saved."""
    found = {}
    for tokenizer in tokenizers.values():
        directory = tmp_path_factory.mktemp("saved")
        tokenizer.save(directory)
        found[tokenizer.fingerprint()] = transformers.AutoTokenizer.from_pretrained(directory)
    return found


@examples
@given(text=strings)
def test_autotokenizer_gives_the_same_ids(tokenizer: Tokenizer, opened: dict[str, Any], text: str) -> None:
    ids = tokenizer.encode(text)
    theirs = opened[tokenizer.fingerprint()]
    assert theirs(text)["input_ids"] == ids
    assert theirs.decode(ids) == text


def test_autotokenizer_knows_the_end_of_text(tokenizer: Tokenizer, opened: dict[str, Any]) -> None:
    theirs = opened[tokenizer.fingerprint()]
    assert theirs.eos_token_id == theirs.bos_token_id == tokenizer.end_of_text
    assert len(theirs) == tokenizer.vocab_size
    assert theirs.decode([tokenizer.end_of_text]) == "<|endoftext|>"


def test_what_was_saved_is_loaded(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "new")
    loaded = Tokenizer.load(tmp_path / "new")
    assert loaded.vocabulary == tokenizer.vocabulary
    assert loaded.kind == tokenizer.kind
    assert loaded.fingerprint() == tokenizer.fingerprint()
    assert loaded.files() == tokenizer.files()
    assert {path.name: path.read_bytes() for path in (tmp_path / "new").iterdir()} == tokenizer.files()


@pytest.mark.parametrize("kind", ["gpt2", "bytes", "bpe on runs"])
def test_the_kind_of_foreign_files_is_found_out(
    kind: str, tokenizers: dict[str, Tokenizer], tmp_path: Path
) -> None:
    (tmp_path / "tokenizer.json").write_bytes(tokenizers[kind].files()["tokenizer.json"])
    assert Tokenizer.load(tmp_path).kind == tokenizers[kind].kind


def test_gpt2s_older_pair_of_files_is_loaded(tokenizers: dict[str, Tokenizer], tmp_path: Path) -> None:
    gpt2 = tokenizers["gpt2"]
    vocab = {to_letters(piece): number for piece, number in gpt2.vocabulary.ordinary().items()}
    (tmp_path / "vocab.json").write_text(json.dumps(vocab | {"<|endoftext|>": 50256}), encoding="utf-8")
    (tmp_path / "merges.txt").write_bytes(vocab_bpe())
    assert Tokenizer.load(tmp_path).fingerprint() == gpt2.fingerprint()


def write_altered(tokenizer: Tokenizer, directory: Path, **changes: Any) -> None:
    """Write tokenizer.json with some parts replaced; `model` takes a dictionary of changes."""
    source = json.loads(tokenizer.files()["tokenizer.json"])
    source["model"] |= changes.pop("model", {})
    (directory / "tokenizer.json").write_text(json.dumps(source | changes), encoding="utf-8")


def refusal(directory: Path) -> str:
    with pytest.raises(InputError) as refused:
        Tokenizer.load(directory)
    message = str(refused.value)
    assert "\n" not in message
    assert str(directory) in message
    return message


def test_other_ways_to_write_the_same_are_read(tokenizers: dict[str, Tokenizer], tmp_path: Path) -> None:
    tokenizer = tokenizers["bpe on verdict"]
    pairs = [[to_letters(left), to_letters(right)] for left, right in tokenizer.vocabulary.merges]
    split = {"type": "Split", "pattern": {"Regex": AS_PUBLISHED}, "behavior": "Isolated", "invert": False}
    to_bytes = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    steps = {"type": "Sequence", "pretokenizers": [split, to_bytes]}
    write_altered(tokenizer, tmp_path, model={"merges": pairs}, pre_tokenizer=steps)
    assert Tokenizer.load(tmp_path).fingerprint() == tokenizer.fingerprint()


def test_the_end_of_text_may_have_another_name(tokenizers: dict[str, Tokenizer], tmp_path: Path) -> None:
    source = json.loads(tokenizers["bpe on verdict"].files()["tokenizer.json"])
    del source["model"]["vocab"]["<|endoftext|>"]
    source["added_tokens"] = [
        {"id": 1023, "content": "<s>", "special": True},
        {"id": 1024, "content": "</s>", "special": True},
    ]
    (tmp_path / "tokenizer.json").write_text(json.dumps(source), encoding="utf-8")
    assert "no special token <|endoftext|>" in refusal(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": {"content": "</s>"}}', encoding="utf-8")
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.end_of_text == 1024
    assert tokenizer.encode("<s>a</s>", allow_special=True)[::2] == [1023, 1024]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": {"type": "Unigram"}}, "Unigram"),
        ({"model": {"type": "WordPiece"}}, "WordPiece"),
        ({"model": {"byte_fallback": True}}, "byte_fallback"),
        ({"model": {"dropout": 0.1}}, "dropout"),
        ({"normalizer": {"type": "NFC"}}, "NFC"),
        ({"pre_tokenizer": None}, "splits text in another way"),
        ({"pre_tokenizer": {"type": "Metaspace"}}, "splits text in another way"),
        ({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True}}, "splits text in another way"),
        ({"added_tokens": [{"id": 1, "content": "  ", "special": False}]}, "looked up before splitting"),
        ({"added_tokens": []}, "no special token"),
        ({"added_tokens": [{"id": 5000, "content": "<|endoftext|>", "special": True}]}, "number"),
        ({"model": {"merges": ["Ġ t", "x zzz"]}}, "lacks b'zzz'"),
        ({"model": {"merges": ["a b c"]}}, "damaged"),
        ({"model": {"vocab": dict.fromkeys("abc", 0), "merges": []}}, "number"),
        ({"model": {"vocab": {"<|endoftext|>": 1023}, "merges": []}}, "number"),
        ({"model": {"vocab": None}}, "damaged"),
        ({"model": None}, "damaged"),
    ],
)
def test_a_tokenizer_of_another_sort_is_refused_by_name(
    changes: dict[str, Any], words: str, tokenizers: dict[str, Tokenizer], tmp_path: Path
) -> None:
    if changes.get("model", {}) is None:
        (tmp_path / "tokenizer.json").write_text('{"model": null}', encoding="utf-8")
    else:
        write_altered(tokenizers["bpe on verdict"], tmp_path, **changes)
    assert words in refusal(tmp_path)


def test_merges_with_two_readings_are_refused(tokenizers: dict[str, Tokenizer], tmp_path: Path) -> None:
    """Merging by pair gives "abc" as ab + c, merging by rank would also take a + bc."""
    vocab = json.loads(tokenizers["bytes"].files()["tokenizer.json"])["model"]["vocab"]
    del vocab["<|endoftext|>"]
    special = [{"id": 259, "content": "<|endoftext|>", "special": True}]
    for merges in (["b c", "a b", "ab c"], ["a b", "ab c", "b c", "a bc"]):
        made = dict.fromkeys(merge.replace(" ", "") for merge in merges)
        model = {"vocab": vocab | {piece: 256 + n for n, piece in enumerate(made)}, "merges": merges}
        write_altered(tokenizers["bytes"], tmp_path, model=model, added_tokens=special)
        assert "makes b'abc' in two ways or in none" in refusal(tmp_path)


def test_a_directory_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    assert "no tokenizer.json" in refusal(tmp_path)
    assert "no directory" in refusal(tmp_path / "nowhere")
    (tmp_path / "tokenizer.model").write_bytes(b"\n\0")
    assert "SentencePiece" in refusal(tmp_path)


def test_a_space_before_every_text_is_refused(tokenizers: dict[str, Tokenizer], tmp_path: Path) -> None:
    tokenizers["bytes"].save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"add_prefix_space": true}', encoding="utf-8")
    assert "add_prefix_space" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b"9" * 10_000])
def test_a_damaged_file_is_named(
    name: str, damage: bytes, tokenizers: dict[str, Tokenizer], tmp_path: Path
) -> None:
    tokenizers["bytes"].save(tmp_path)
    (tmp_path / name).write_bytes(damage)
    assert name in refusal(tmp_path)


@examples
@given(data=st.data())
def test_an_altered_file_is_loaded_or_refused_but_never_crashes(
    data: st.DataObject, tokenizers: dict[str, Tokenizer], tmp_path: Path
) -> None:
    whole = tokenizers["bytes"].files()
    name = data.draw(st.sampled_from(sorted(whole)))
    content = bytearray(whole[name])
    start = data.draw(st.integers(0, len(content)))
    content[start : start + data.draw(st.integers(0, 40))] = data.draw(st.binary(max_size=6))
    for file, unaltered in whole.items():
        (tmp_path / file).write_bytes(bytes(content) if file == name else unaltered)
    try:
        tokenizer = Tokenizer.load(tmp_path)
    except InputError:
        return
    assert tokenizer.decode(tokenizer.encode("a text")) == "a text"


def test_gpt2s_own_file_is_known_by_its_sum(tokenizers: dict[str, Tokenizer]) -> None:
    content = tokenizers["gpt2"].files()["tokenizer.json"]
    assert hashlib.sha256(content).hexdigest() == GPT2_FILE


@given(st.lists(st.binary(max_size=9)))
def test_many_pieces_are_read_as_one_by_one(pieces: list[bytes]) -> None:
    assert to_pieces([to_letters(piece) for piece in pieces]) == pieces


@pytest.mark.parametrize("name", [" ", "\n", "a\n", "\U00020ac0", "é ", "\x80", "\ud800"])
def test_a_name_with_a_character_that_is_no_byte_is_refused(name: str) -> None:
    for read in (to_bytes, lambda name: to_pieces(["a", name])):
        with pytest.raises(ValueError):  # noqa: PT011
            read(name)
