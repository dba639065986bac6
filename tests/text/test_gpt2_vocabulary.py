"""GPT-2's ids equal tiktoken's own; tiktoken reads its two files from a cache here, not from the network."""

import hashlib
import json
import sysconfig
from pathlib import Path

import pytest
import tiktoken
import tiktoken_ext.openai_public
from hypothesis import given, settings
from text_samples import VERDICT, examples, mixed_text, strings

from glassgpt.text.alphabet import BYTES_IN_ORDER, to_bytes, to_letters
from glassgpt.text.gpt2 import gpt2_encoding, gpt2_vocabulary, vocab_bpe
from glassgpt.text.tokenizer import Tokenizer

ADDRESS = "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/"


@pytest.fixture(scope="module")
def gpt2(tokenizers: dict[str, Tokenizer]) -> Tokenizer:
    return tokenizers["gpt2"]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tiktoken.Encoding:
    """What tiktoken itself builds from vocab.bpe and encoder.json; it checks the SHA-256 of both."""
    cache = tmp_path_factory.mktemp("tiktoken")
    pieces = [to_letters(piece) for piece in gpt2_vocabulary().pieces[:-1]]
    encoder = json.dumps({piece: number for number, piece in enumerate([*pieces, "<|endoftext|>"])})
    for name, content in (("vocab.bpe", vocab_bpe()), ("encoder.json", encoder.encode())):
        (cache / hashlib.sha1((ADDRESS + name).encode()).hexdigest()).write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", str(cache))
        patch.setattr("tiktoken.load.read_file", lambda path: pytest.fail(f"{path} would be downloaded"))
        return tiktoken.Encoding(**tiktoken_ext.openai_public.gpt2())


def test_the_packaged_file_is_openais_byte_for_byte() -> None:
    assert len(vocab_bpe()) == 456_318
    digest = hashlib.sha256(vocab_bpe()).hexdigest()
    assert digest == "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"


def test_every_byte_has_one_letter_and_back() -> None:
    assert sorted(BYTES_IN_ORDER) == [bytes([value]) for value in range(256)]
    letters = to_letters(bytes(range(256)))
    assert len(set(letters)) == 256
    assert letters.isprintable()
    assert to_bytes(letters) == bytes(range(256))
    assert to_letters(b" the") == "Ġthe"
    for stranger in (" ", "\xad", "\u0144", "世"):
        with pytest.raises(ValueError, match="codec"):
            to_bytes(stranger)


def test_the_vocabulary_has_50257_tokens_and_ends_with_end_of_text(gpt2: Tokenizer) -> None:
    assert gpt2.vocab_size == 50_257
    assert gpt2.end_of_text == 50_256
    assert gpt2.kind == "gpt2"


def test_the_registry_entry_equals_tiktokens(reference: tiktoken.Encoding) -> None:
    ours = tiktoken.Encoding(**gpt2_encoding())
    assert ours.name == reference.name
    assert ours.n_vocab == reference.n_vocab
    assert ours._mergeable_ranks == reference._mergeable_ranks
    assert ours.encode("a<|endoftext|>", allowed_special="all") == [64, 50256]


def test_the_numbers_of_the_chapter_on_text(gpt2: Tokenizer) -> None:
    ids = gpt2.encode(VERDICT)
    assert len(VERDICT) == 20_479
    assert len(ids) == 5_145
    assert ids[:5] == [40, 367, 2885, 1464, 1807]
    assert gpt2.decode(ids) == VERDICT
    assert gpt2.encode("Every effort moves you") == [6109, 3626, 6100, 345]
    assert gpt2.encode("Every day holds a") == [6109, 1110, 6622, 257]
    assert gpt2.encode("Hello, I am") == [15496, 11, 314, 716]
    assert gpt2.encode("Akwirw ier") == [33901, 86, 343, 86, 220, 959]
    sentence = "Hello, do you like tea? <|endoftext|> In the sunlit terracesof someunknownPlace."
    expected = [15496, 11, 466, 345, 588, 8887, 30, 220, 50256, 554, 262, 4252, 18250, 8812, 2114, 1659, 617]
    assert gpt2.encode(sentence, allow_special=True) == [*expected, 34680, 27271, 13]


@pytest.mark.thorough
def test_ids_equal_tiktokens_on_ten_megabytes_of_mixed_text(
    gpt2: Tokenizer, reference: tiktoken.Encoding
) -> None:
    code = [path.read_bytes().decode("utf-8", "replace") for path in _library_sources()]
    text = "".join(code) + mixed_text(130_000, seed=3) + VERDICT * 20
    assert len(text.encode()) > 10_000_000
    expected = reference.encode_ordinary(text)
    assert gpt2.encode_to_numpy(text).tolist() == expected
    assert gpt2.encode(text) == expected


@settings(examples, max_examples=300)
@given(text=strings)
def test_ids_equal_tiktokens_on_any_string(gpt2: Tokenizer, reference: tiktoken.Encoding, text: str) -> None:
    assert gpt2.encode(text) == reference.encode_ordinary(text)
    assert gpt2.encode(text, allow_special=True) == reference.encode(text, allowed_special="all")


def _library_sources() -> list[Path]:
    """Files of the standard library, five megabytes and more."""
    library = Path(sysconfig.get_path("stdlib"))
    return sorted([*library.glob("*.py"), *library.glob("encodings/*.py"), *library.glob("[a-f]*/*.py")])
