"""GlassGPT: its native decoder, and the PyTorch path."""

from functools import cache
from pathlib import Path
from typing import Any

import glassgpt
from glassgpt.api.native import NativeModel
from glassgpt.checkpoint.packed import open_stored
from glassgpt.generation.engine import Engine
from glassgpt.generation.sampling import Sampling
from glassgpt.generation.sequence import Request
from glassgpt.generation.single import generate_on
from glassgpt.native.packing import Format


class Native:
    """`load` and what it writes with; several texts by the engine.

    Drafts are left out where nothing else is said: greedy text of random weights repeats itself, and the contenders are
    to compute every token.
    """

    def __init__(self, directory: Path, threads: int, form: Format, drafts: bool = False) -> None:
        if (directory / "tokenizer.json").exists():
            native = glassgpt.load(directory, dtype=form).native
        else:  # no letters, only ids
            native = NativeModel(open_stored(directory), form)
        if native is None:
            raise SystemExit("the native decoder was not built")
        self._decoder, self._drafts = native.decoder(), drafts
        self._with_slots = cache(native.decoder)
        self.bytes_per_token = self._decoder.bytes_per_token

    def write(self, prompts: list[list[int]], n_new: int, temperature: float = 0) -> list[list[int]]:
        how: dict[str, Any] = {"max_new_tokens": n_new, "sampling": Sampling(temperature=temperature)}
        how["speculate"] = self._drafts
        if len(prompts) == 1:
            return [[token for token, _ in generate_on(self._decoder, prompts[0], **how)]]
        engine = Engine(self._with_slots(len(prompts)))
        sequences = [engine.submit(Request(ids=prompt, **how))[0] for prompt in prompts]
        return [list(engine.take(sequence)) for sequence in sequences]


class OnTorch:
    """Cached generation by the model of the chapter, one text after the other."""

    def __init__(self, directory: Path, threads: int) -> None:
        import torch

        from glassgpt.checkpoint.directory import load_model

        torch.set_num_threads(threads)
        self._model = load_model(directory)
        numbers = sum(p.numel() for name, p in self._model.named_parameters() if "position_embedding" not in name)
        self.bytes_per_token = 4 * numbers

    def write(self, prompts: list[list[int]], n_new: int) -> list[list[int]]:
        from glassgpt.generation.generate import generate

        greedy = Sampling(temperature=0)
        return [list(generate(self._model, ids, max_new_tokens=n_new, sampling=greedy)) for ids in prompts]
