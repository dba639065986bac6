"""The tokenizer's files, as Hugging Face tools write and read them.

`tokenizer.json` holds pieces and merges; `tokenizer_config.json` says how to use them. Two entries of the
latter matter: "tokenizer_class" keeps AutoTokenizer from choosing a class by the model's type, and
"split_special_tokens" keeps it from turning typed text into special tokens.
"""

import hashlib
import json
import operator
from itertools import chain
from pathlib import Path
from typing import Any, get_args

from glassgpt.files.reading import LARGE, read_bytes
from glassgpt.settings import InputError
from glassgpt.text.alphabet import to_letters, to_pieces
from glassgpt.text.gpt2 import gpt2_vocabulary
from glassgpt.text.vocabulary import END_OF_TEXT, GPT2_SPLIT, Kind, Vocabulary

GPT2_FILE = "6282c5acb7fb9017fae032e2a932f49ef57fa4aa067bae9ef5c3c7bb4963d9b3"
"""SHA-256 of the tokenizer.json that `to_files` makes of GPT-2's vocabulary: that one need not be taken apart."""
_SUPPORTED = "only byte-level BPE with GPT-2's splitting pattern is supported"
_OTHER_OPTIONS = (
    "dropout",
    "continuing_subword_prefix",
    "end_of_word_suffix",
    "byte_fallback",
    "ignore_merges",
)
_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
_GPT2_SPLIT_AS_PUBLISHED = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def to_files(kind: Kind, vocabulary: Vocabulary) -> dict[str, bytes]:
    """File name -> content of what AutoTokenizer and `from_directory` open."""
    tokens = {to_letters(piece): number for piece, number in vocabulary.ordinary().items()}
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": dict(sorted((tokens | dict(vocabulary.special)).items(), key=lambda token: token[1])),
        "merges": [f"{to_letters(left)} {to_letters(right)}" for left, right in vocabulary.merges],
    }
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": n, "content": name, **flags} for name, n in vocabulary.special.items()],
        "normalizer": None,
        "pre_tokenizer": _BYTE_LEVEL,
        "post_processor": None,
        "decoder": _BYTE_LEVEL,
        "model": model,
    }
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "split_special_tokens": True,
        "clean_up_tokenization_spaces": False,
        "add_prefix_space": False,
        "bos_token": vocabulary.end_of_text,
        "eos_token": vocabulary.end_of_text,
        "glassgpt": {"kind": kind, "fingerprint": vocabulary.fingerprint},
    }
    return {"tokenizer.json": _to_json(tokenizer), "tokenizer_config.json": _to_json(config)}


def from_directory(directory: Path) -> tuple[Kind, Vocabulary]:
    """Kind and vocabulary from `tokenizer.json`, or from GPT-2's older pair `vocab.json` and `merges.txt`.

    Raises InputError where there is no tokenizer, where it is of another sort, or where a file is damaged.
    """
    config_path = directory / "tokenizer_config.json"
    config = read_json(config_path) if config_path.is_file() else {}
    if config.get("add_prefix_space"):
        raise InputError(f"{config_path} puts a space before every text (add_prefix_space), but {_SUPPORTED}")
    path = directory / "tokenizer.json"
    if path.is_file():
        content = _read(path)
        if hashlib.sha256(content).hexdigest() == GPT2_FILE and _end_of_text(config) == END_OF_TEXT:
            return "gpt2", gpt2_vocabulary()
        source = _object(content, path)
    elif (directory / "vocab.json").is_file() and (directory / "merges.txt").is_file():
        path = directory / "vocab.json"
        source = _as_tokenizer_json(read_json(path), _text(_read(directory / "merges.txt"), path))
    elif (directory / "tokenizer.model").is_file():
        raise InputError(f"{directory} has a SentencePiece tokenizer (tokenizer.model), but {_SUPPORTED}")
    elif directory.is_dir():
        raise InputError(f"{directory} has no tokenizer.json, as a model directory should; give another one")
    else:
        raise InputError(f"there is no directory {directory}; give the path of a model directory")
    try:
        _refuse_other_sorts(source, path)
        vocabulary = _to_vocabulary(source, _end_of_text(config), path)
        return _known_kind(config, vocabulary, path), vocabulary
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        found = f"{type(error).__name__}: {error}"
        raise InputError(f"{path} is damaged or no byte-level BPE ({found}); copy it again") from None


def _refuse_other_sorts(source: dict[str, Any], path: Path) -> None:
    """Raise InputError unless tokenizer.json describes exactly what `Tokenizer` does."""
    model = source["model"]
    if (sort := model.get("type", "BPE")) != "BPE":
        raise InputError(f"{path} holds a {sort} tokenizer, but {_SUPPORTED}")
    if source.get("normalizer"):
        raise InputError(f"{path} changes the text first ({source['normalizer']['type']}), but {_SUPPORTED}")
    for option in _OTHER_OPTIONS:
        if model.get(option):
            raise InputError(f"{path} uses {option} = {model[option]!r}, but {_SUPPORTED}")
    if any(not token.get("special") for token in source.get("added_tokens") or []):
        raise InputError(f"{path} adds words that are looked up before splitting, but {_SUPPORTED}")
    if not _splits_as_gpt2(source.get("pre_tokenizer") or {}):
        raise InputError(f"{path} splits text in another way than GPT-2, but {_SUPPORTED}")


def _splits_as_gpt2(splitting: dict[str, Any]) -> bool:
    """Whether a pre_tokenizer is GPT-2's: its pattern built in, or written out before the step to bytes."""
    if splitting.get("type") == "Sequence":
        split, *rest = splitting["pretokenizers"]
        written_out = (
            split["type"] == "Split"
            and split["pattern"].get("Regex") in (_GPT2_SPLIT_AS_PUBLISHED, GPT2_SPLIT)
            and split["behavior"] == "Isolated"
            and not split.get("invert")
        )
        return written_out and len(rest) == 1 and _is_byte_level(rest[0], with_pattern=False)
    return _is_byte_level(splitting, with_pattern=True)


def _is_byte_level(step: dict[str, Any], with_pattern: bool) -> bool:
    return (
        step.get("type") == "ByteLevel"
        and not step.get("add_prefix_space", True)
        and bool(step.get("use_regex", True)) == with_pattern
    )


def _to_vocabulary(source: dict[str, Any], end_of_text: str, path: Path) -> Vocabulary:
    """The vocabulary in tokenizer.json; its ids must be 0 to n - 1, its merges must stay inside it."""
    special = {token["content"]: token["id"] for token in source.get("added_tokens") or []}
    ids = source["model"]["vocab"] | special
    are_whole = all(type(number) is int for number in ids.values())
    if not are_whole or sorted(ids.values()) != list(range(len(ids))):
        raise InputError(f"{path} does not number its {len(ids)} tokens from 0 on; copy it again")
    if "" in special:
        raise InputError(f"{path} has a special token without a name; copy it again")
    if end_of_text not in special:
        raise InputError(f"{path} has no special token {end_of_text} to end a text with, but one is needed")
    merges = source["model"]["merges"]
    if len(merges) > len(ids):
        raise InputError(f"{path} has {len(merges)} merges, but only {len(ids)} tokens for them; copy it again")
    names = sorted(ids, key=ids.__getitem__)
    pieces = to_pieces(["" if name in special else name for name in names])
    for name, number in special.items():
        pieces[number] = name.encode()
    parts = to_pieces(_flat(merges))
    vocabulary = Vocabulary(tuple(pieces), tuple(zip(parts[::2], parts[1::2])), special, end_of_text)
    known = vocabulary.ordinary()
    made = map(operator.add, parts[::2], parts[1::2])
    needed = chain(parts, made, (bytes([value]) for value in range(256)))
    absent = next((piece for piece in needed if piece not in known), None)
    if absent is not None:
        raise InputError(f"{path}: its vocabulary lacks {absent!r}, so it is damaged or not byte-level BPE")
    return vocabulary


def _flat(merges: list[Any]) -> list[str]:
    """Left, right, left, right, ... of merges, which are "left right" or [left, right]."""
    if all(isinstance(pair, str) for pair in merges):
        parts = " ".join(merges).split(" ") if merges else []
        if any(pair.count(" ") != 1 for pair in merges):
            raise ValueError("a merge is no pair")
        return parts
    pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in merges]
    return [part for left, right in pairs for part in (left, right)]


def _known_kind(config: dict[str, Any], vocabulary: Vocabulary, path: Path) -> Kind:
    """The kind that our own files state. Other tools' files are checked: merges can be ambiguous."""
    ours = config.get("glassgpt") or {}
    if ours.get("fingerprint") == vocabulary.fingerprint and ours.get("kind") in get_args(Kind):
        return ours["kind"]
    if vocabulary == gpt2_vocabulary():
        return "gpt2"
    if (piece := _ambiguous_piece(vocabulary)) is not None:
        raise InputError(f"{path} makes {piece!r} in two ways or in none, so its ids are not certain")
    return "bpe" if vocabulary.merges else "bytes"


def _ambiguous_piece(vocabulary: Vocabulary) -> bytes | None:
    """A piece for which merging listed pairs and merging by rank could differ, or None.

    They are the same where no two merges make one piece and where the bytes of every such piece, merged,
    give that piece: then two neighbours that make it up can only be those of its merge (see `bpe`).
    """
    from tokenizers import models

    made = [left + right for left, right in vocabulary.merges]
    if len(set(made)) < len(made):
        return next(piece for piece in made if made.count(piece) > 1)
    letters = {to_letters(piece): number for piece, number in vocabulary.ordinary().items()}
    model = models.BPE(letters, [(to_letters(left), to_letters(right)) for left, right in vocabulary.merges])
    return next((piece for piece in made if len(model.tokenize(to_letters(piece))) != 1), None)


def _as_tokenizer_json(vocab: dict[str, int], merges: str) -> dict[str, Any]:
    """GPT-2's older pair of files as the parts of tokenizer.json that are read here."""
    lines = [line for line in merges.split("\n") if line and not line.startswith("#version")]
    return {
        "model": {"type": "BPE", "vocab": vocab, "merges": lines},
        "added_tokens": [{"id": vocab.get(END_OF_TEXT), "content": END_OF_TEXT, "special": True}],
        "pre_tokenizer": _BYTE_LEVEL,
    }


def _end_of_text(config: dict[str, Any]) -> str:
    """The name of the special token that ends a text; files state it as text or as {"content": text}."""
    token = config.get("eos_token")
    return (token.get("content") if isinstance(token, dict) else token) or END_OF_TEXT


def _to_json(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=1) + "\n").encode("utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises InputError where there is none."""
    return _object(_read(path), path)


def _object(content: bytes, path: Path) -> dict[str, Any]:
    try:
        value = json.loads(_text(content, path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is truncated or altered, no valid JSON ({error}); copy it again") from None
    if not isinstance(value, dict):
        raise InputError(f"{path} holds no JSON object, so it is no tokenizer file; copy it again")
    return value


def _text(content: bytes, path: Path) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is altered, no valid UTF-8 at byte {error.start}; copy it again") from None


def _read(path: Path) -> bytes:
    try:
        return read_bytes(path, LARGE)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
