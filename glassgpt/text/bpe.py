"""Training a byte-level BPE vocabulary on a text: the most frequent pair of neighbours becomes a new piece,
again and again (Sennrich et al. 2016). The counting is done by the `tokenizers` library.

Two readings of such a vocabulary exist. Hugging Face merges the listed *pairs*; tiktoken merges any two
neighbours that together are a piece, the piece with the lowest id first. They agree where every piece
arises in one way only, and training guarantees it: if a pair of neighbours is found at some point, then its
bytes, merged by all earlier merges, always end in just these two neighbours, wherever they stand. So the
same bytes cannot be found again, divided at another place.
"""

import json
import threading
from collections.abc import Callable, Iterable

from glassgpt.text.alphabet import BYTES_IN_ORDER, to_bytes
from glassgpt.text.cutting import cut
from glassgpt.text.vocabulary import Vocabulary, with_end_of_text

LEARNED_AT_ONCE = 1 << 14
"""Characters handed over at a time: the library gathers 256 such parts before it counts their words."""


def train_bpe(texts: Iterable[str], vocab_size: int) -> Vocabulary:
    """Learn at most `vocab_size` tokens from `texts`: 256 bytes in GPT-2's order, merges, <|endoftext|> last.

    A pair that occurs only once is not merged, so a small text gives a smaller vocabulary. The same texts
    give the same vocabulary.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 1,
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    parts = (part for text in texts for part in cut(text, LEARNED_AT_ONCE))
    _interruptible(lambda: learner.train_from_iterator(parts, trainer))
    learned: list[tuple[str, str]] = json.loads(learner.to_str())["model"]["merges"]
    merges = [(to_bytes(left), to_bytes(right)) for left, right in learned]
    return with_end_of_text([*BYTES_IN_ORDER, *(left + right for left, right in merges)], merges)


def _interruptible(work: Callable[[], None]) -> None:
    """Run `work` in a thread, so that a Ctrl-C is obeyed at once: the library looks for none in its own loops."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.1)
    if failures:
        raise failures[0]
