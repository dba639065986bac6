"""GlassGPT: its plain PyTorch path."""

from pathlib import Path

import torch

from glassgpt.checkpoint.directory import load_model
from glassgpt.generation.generate import generate
from glassgpt.generation.sampling import Sampling


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
