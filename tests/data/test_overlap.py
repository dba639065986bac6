from pathlib import Path

from glassgpt.data.overlap import overlap
from glassgpt.data.prepare import split
from glassgpt.text.corpus import Corpus

VERDICT = (Path(__file__).parents[2] / "notebooks" / "the-verdict.txt").read_text(encoding="utf-8")


def share(*texts: str) -> float:
    return overlap(*split(Corpus.of(texts), 0.2))


def test_a_book_repeats_little_of_itself_and_a_second_draft_nearly_all() -> None:
    assert share(VERDICT) == 0
    assert share(VERDICT, VERDICT.replace("Gisburn", "Gosburn")) > 0.6
    assert share("one line, said over and over again\n" * 500) == 1


def test_a_passage_at_the_border_of_two_blocks_is_found() -> None:
    filler = "".join(f"{number} " for number in range(200_000))[: 2**20 - 200]
    assert share(filler + VERDICT[:400] + "".join(f"{number}; " for number in range(50_000)), VERDICT[:400] * 999) > 0.9


def test_a_short_text_has_no_passages() -> None:
    assert share("short", "and") == 0
