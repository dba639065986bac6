"""GPT-2's own vocabulary, which comes with the package: 50,257 tokens, no network needed.

The packaged file is OpenAI's `vocab.bpe`, compressed (its licence lies beside it). Each line is a merge;
the pieces are the 256 bytes followed by what the merges make, in order.
"""

import gzip
from pathlib import Path
from typing import Any

from glassgpt.text.alphabet import BYTES_IN_ORDER, to_pieces
from glassgpt.text.vocabulary import GPT2_SPLIT, Vocabulary, with_end_of_text


def vocab_bpe() -> bytes:
    """OpenAI's file `vocab.bpe`, byte for byte (456,318 bytes)."""
    return gzip.decompress(Path(__file__).with_name("gpt2_vocab.bpe.gz").read_bytes())


def gpt2_vocabulary() -> Vocabulary:
    """GPT-2's vocabulary: ids 0-255 are bytes, 256-50255 merges, 50256 is <|endoftext|>."""
    lines = vocab_bpe().decode("utf-8").splitlines()[1:]  # the first line only states a version
    parts = to_pieces(" ".join(lines).split(" "))
    merges = [*zip(parts[::2], parts[1::2], strict=True)]
    return with_end_of_text([*BYTES_IN_ORDER, *(left + right for left, right in merges)], merges)


def gpt2_encoding() -> dict[str, Any]:
    """The arguments of `tiktoken.Encoding` for GPT-2: what an entry of tiktoken's registry returns."""
    vocabulary = gpt2_vocabulary()
    return {
        "name": "gpt2",
        "pat_str": GPT2_SPLIT,
        "mergeable_ranks": vocabulary.ordinary(),
        "special_tokens": dict(vocabulary.special),
        "explicit_n_vocab": len(vocabulary.pieces),
    }
