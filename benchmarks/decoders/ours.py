"""GlassGPT: its native decoder, and the PyTorch path."""

from pathlib import Path

import numpy as np
import torch

from glassgpt.checkpoint.directory import load_model
from glassgpt.generation.generate import generate
from glassgpt.generation.sampling import Sampling
from glassgpt.native.decoder import Decoder
from glassgpt.native.packing import Format, pack
from glassgpt.native.spans import Span


class OnTorch:
    """Cached generation by the model of the chapter."""

    def __init__(self, directory: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        self._model = load_model(directory)
        numbers = sum(p.numel() for name, p in self._model.named_parameters() if "position_embedding" not in name)
        self.bytes_per_token = 4 * numbers

    def write(self, prompts: list[list[int]], n_new: int) -> list[list[int]]:
        greedy = Sampling(temperature=0)
        return [list(generate(self._model, ids, max_new_tokens=n_new, sampling=greedy)) for ids in prompts]


class Native:
    """The decoder itself, without the engine around it."""

    def __init__(self, directory: Path, threads: int, form: Format) -> None:
        model = load_model(directory)
        parameters = {name: value.detach().numpy() for name, value in model.named_parameters()}
        vectors = {name: value for name, value in parameters.items() if value.ndim == 1 or name.startswith("position")}
        matrices = {name: pack(value, form, threads) for name, value in parameters.items() if name not in vectors}
        self._decoder = Decoder(model.config, matrices, vectors, threads=threads, n_slots=16)
        self.bytes_per_token = self._decoder.bytes_per_token

    def write(self, prompts: list[list[int]], n_new: int) -> list[list[int]]:
        spans = [Span(slot, 0, prompt) for slot, prompt in enumerate(prompts)]
        written = []
        for _ in range(n_new):
            chosen = [int(np.argmax(scores)) for scores in self._decoder.forward(spans)]
            written.append(chosen)
            spans = [Span(span.slot, span.start + len(span.ids), [token]) for span, token in zip(spans, chosen)]
        return [list(ids) for ids in zip(*written)]
