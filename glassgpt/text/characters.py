"""Vocabularies without learning: one token a byte, or one token a character of the text."""

import sys
from collections.abc import Iterable

import numpy as np

from glassgpt.text.vocabulary import Vocabulary, with_end_of_text


def byte_vocabulary() -> Vocabulary:
    """257 tokens: id 0-255 is the value of the byte, 256 is <|endoftext|>. Nothing is merged."""
    return with_end_of_text([bytes([value]) for value in range(256)], [])


def character_vocabulary(texts: Iterable[str]) -> Vocabulary:
    """One token for each character of `texts`, in the form of a BPE vocabulary.

    The ids are: the characters, sorted; the beginnings of characters of three or four bytes, which merging
    passes through on its way to them; the bytes that are no character of the texts, so that any other text
    has ids too; <|endoftext|>. The merges join the bytes of one character from left to right. Two
    characters never compete for a byte, since in UTF-8 no character begins inside another, so the order of
    these merges does not matter.
    """
    characters = [character.encode() for character in distinct(texts)]
    beginnings = sorted({piece[:n] for piece in characters for n in range(2, len(piece))})
    known = set(characters)
    other_bytes = [bytes([value]) for value in range(256) if bytes([value]) not in known]
    merges = [(piece[:-1], piece[-1:]) for piece in characters + beginnings if len(piece) > 1]
    return with_end_of_text(characters + beginnings + other_bytes, merges)


def distinct(texts: Iterable[str]) -> list[str]:
    """Every character of `texts` once, sorted."""
    is_there = np.zeros(sys.maxunicode + 1, np.bool_)
    for text in texts:
        is_there[np.frombuffer(text.encode("utf-32-le"), "<u4")] = True
    return [chr(code) for code in np.flatnonzero(is_there)]
