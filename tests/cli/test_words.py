import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from glassgpt.cli.words import WordWrap, command, size

WORDS = st.lists(st.sampled_from(["a", "word", "longer", "世界", "🦊", "\n", " ", "x" * 50]), max_size=60)


@given(words=WORDS, cuts=st.lists(st.integers(1, 9), min_size=1), width=st.integers(8, 30))
def test_text_that_comes_in_pieces_is_broken_between_words(words: list[str], cuts: list[int], width: int) -> None:
    text = " ".join(words)
    wrap, shown, rest = WordWrap(width), "", text
    while rest:
        n = cuts[len(rest) % len(cuts)]
        shown += wrap.feed(rest[:n])
        rest = rest[n:]
    shown += wrap.flush()
    assert shown.split() == text.split(), "no word is cut, none is lost"
    for line in shown.split("\n"):
        assert cell_len(line.rstrip()) <= width or len(line.split()) == 1, "only a word that is wider is wider"


@pytest.mark.parametrize("name", ["runs/book", "runs/My Novels", "it's", "a$b", "-x"])
def test_a_command_to_type_is_quoted(name: str) -> None:
    assert shlex.split(command("generate", name, "--top-k", 3)) == ["glassgpt", "generate", name, "--top-k", "3"]


def test_sizes_have_three_digits_and_the_unit_that_suits() -> None:
    written = {999: "999 B", 1e6: "1 MB", 999e9: "999 GB", 999.6e9: "1 TB", 1e12: "1 TB", 3.44e12: "3.44 TB"}
    assert {n_bytes: size(n_bytes) for n_bytes in written} == written
