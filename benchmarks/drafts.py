"""What drafts from the text itself are worth: a given text written by a GPT-2 124M with them and without.

    python benchmarks/drafts.py code.py prose.txt --dtype int8

The model computes everything, with random weights, but what is chosen is the next token of the text, as if the model
had learnt it: so the texts can be any, and both ways write the same. Of each text, pieces of 600 tokens from places
spread over it; the first 200 of a piece are the prompt. With and without take turns (A-B-B-A).
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import history
import numpy as np
import tiktoken

from glassgpt.config import GPTConfig, preset
from glassgpt.generation.sampling import Sampling
from glassgpt.generation.single import generate_on
from glassgpt.native.decoder import Decoder, expected_shapes
from glassgpt.native.packing import FORMATS, pack
from glassgpt.native.spans import Span
from glassgpt.text.gpt2 import gpt2_encoding

PROMPT, NEW = 200, 400


def main() -> None:
    parser = argparse.ArgumentParser(description="What drafts from the text itself are worth.")
    parser.add_argument("texts", nargs="+", type=Path)
    parser.add_argument("--dtype", choices=FORMATS, default="int8")
    parser.add_argument("--pieces", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    told = Told(decoder(arguments.dtype, arguments.threads))
    encoding, figures = tiktoken.Encoding(**gpt2_encoding()), {}
    for path in arguments.texts:
        ids = encoding.encode_ordinary(path.read_text(encoding="utf-8")[:2_000_000])
        step = (len(ids) - PROMPT - NEW) // arguments.pieces
        ratios = [ratio(told, ids[n * step : n * step + PROMPT + NEW]) for n in range(arguments.pieces)]
        figures[path.stem] = {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}
        print(f"{path.stem:24}" + "".join(f"{name} {value:.2f}  " for name, value in figures[path.stem].items()))
    history.append("drafts", figures | {"dtype": arguments.dtype, "pieces": arguments.pieces})


def ratio(told: "Told", ids: list[int]) -> float:
    """How many times as fast `ids` are written with drafts."""
    seconds: dict[bool, float] = {True: 0.0, False: 0.0}
    for speculate in (True, False, False, True):
        told.text = ids
        began = time.perf_counter()
        steps = generate_on(
            told, ids[:PROMPT], max_new_tokens=NEW, sampling=Sampling(temperature=0), speculate=speculate
        )
        assert [token for token, _ in steps] == ids[PROMPT:]
        seconds[speculate] += time.perf_counter() - began
    return seconds[False] / seconds[True]


class Told:
    """A runner that computes all scores and then says that the next token of `text` is the likeliest."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder, self.config, self.n_slots = decoder, decoder.config, decoder.n_slots
        self.text: list[int] = []

    def forward(self, spans: Sequence[Span]) -> np.ndarray:
        """Of one span."""
        scores = self.decoder.forward(spans)
        first = spans[0].start + len(spans[0].ids) - len(scores)
        for row, position in enumerate(range(first, first + len(scores))):
            self._say(scores[row], position)
        return scores

    def next(self, slot: int, start: int, token: int) -> np.ndarray:
        """Of one token."""
        scores = self.decoder.next(slot, start, token)
        self._say(scores, start)
        return scores

    def _say(self, scores: np.ndarray, position: int) -> None:
        if position + 1 < len(self.text):
            scores[self.text[position + 1]] = 1e9


def decoder(form: str, threads: int) -> Decoder:
    """GPT-2 124M with random weights."""
    config = GPTConfig.from_dict(preset("gpt2-small") | {"tie_embeddings": True})
    rng = np.random.default_rng(0)
    matrices, vectors = {}, {}
    for name, shape in expected_shapes(config):
        values = rng.normal(0, 0.02, shape).astype(np.float32)
        if len(shape) == 2 and name != "position_embedding.weight":
            matrices[name] = pack(values, form, threads)
        else:
            vectors[name] = values
    return Decoder(config, matrices, vectors, threads=threads)


if __name__ == "__main__":
    main()
