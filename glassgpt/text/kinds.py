"""The kinds of tokenizer by the names that a user types: `gpt2`, `bpe:N`, `chars`, `bytes`."""

from collections.abc import Iterable

from glassgpt.settings import InputError, nearest
from glassgpt.text.bpe import train_bpe
from glassgpt.text.characters import byte_vocabulary, character_vocabulary
from glassgpt.text.gpt2 import gpt2_vocabulary
from glassgpt.text.tokenizer import Tokenizer

_MEANT = {"gpt2": "gpt2", "bpe": "bpe:N", "chars": "chars", "characters": "chars", "bytes": "bytes"}
_SMALLEST, _LARGEST = 258, 1_000_000  # 256 bytes, one merge and <|endoftext|>; beyond, memory would run out


def parse_spec(spec: str) -> tuple[str, int | None]:
    """Split "bpe:1024" into ("bpe", 1024); the others have no number: ("chars", None).

    Raises InputError for another name, or for an N that is no number or out of range.
    """
    kind, colon, size = spec.strip().lower().partition(":")
    if kind not in ("gpt2", "bpe", "chars", "bytes"):
        close = nearest(kind, _MEANT)
        hint = f"; did you mean {_MEANT[close]}?" if close else ""
        raise InputError(f"unknown tokenizer {spec!r}: a tokenizer is gpt2, bpe:N, chars or bytes{hint}")
    if kind != "bpe":
        if colon:
            raise InputError(f"tokenizer {spec!r}: only bpe takes a size; write {kind}")
        return kind, None
    if not (size.isascii() and size.isdigit()):
        raise InputError(f"tokenizer {spec!r}: bpe needs the number of tokens; write for example bpe:1024")
    if not _SMALLEST <= int(size[:12]) <= _LARGEST:
        rule = f"N must be from {_SMALLEST} (256 bytes, one merge and <|endoftext|>) to {_LARGEST}"
        raise InputError(f"tokenizer {spec!r}: {rule}; without merges it is called bytes")
    return kind, int(size)


def auto_spec(n_bytes: int) -> str:
    """The tokenizer for a text of `n_bytes` bytes when the user names none.

    About one token for each 1,000 bytes of text, as a power of two from 512 to 16,384: then each token is
    seen a few hundred times while it is learned, and the vocabulary's embedding and head stay a small part
    of a model that is itself sized for the text. Under 64 KB merges would be learned by heart, so the
    tokens are characters.
    """
    if n_bytes < 64_000:
        return "chars"
    wanted = max(512, min(n_bytes // 1_000, 16_384))
    return f"bpe:{1 << (wanted.bit_length() - 1)}"


def train_tokenizer(spec: str, texts: Iterable[str]) -> Tokenizer:
    """Make the tokenizer that `spec` names; `bpe:N` and `chars` learn from `texts`, the others ignore them.

    N counts every token. A text that is too small for N tokens gives fewer. Raises InputError for a wrong
    spec.
    """
    kind, size = parse_spec(spec)
    if kind == "gpt2":
        return Tokenizer("gpt2", gpt2_vocabulary())
    if kind == "bytes":
        return Tokenizer("bytes", byte_vocabulary())
    if size is None:
        return Tokenizer("chars", character_vocabulary(texts))
    return Tokenizer("bpe", train_bpe(texts, size))
