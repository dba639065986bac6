"""A PyTorch model as a runner in the simplest form: a cache for each slot, one span after the other."""

import inspect
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from glassgpt.config import GPTConfig
from glassgpt.generation.cache import make_cache
from glassgpt.generation.runner import check_slots
from glassgpt.model import GPTModel
from glassgpt.native.spans import Span
from glassgpt.ops.linear import OneDnnLinear
from glassgpt.settings import InputError


class TorchSlots:
    """Runs `model` for `n_slots` texts; a slot's memory is taken when it is first used, and kept.

    Raises InputError for a model that is in training mode, or whose `hidden` takes no cache, and for n_slots below 1
    or above 4,096.
    """

    def __init__(self, model: GPTModel, n_slots: int) -> None:
        if model.training:
            raise InputError("the model is in training mode, where dropout disturbs it: call model.eval() first")
        if "cache" not in inspect.signature(model.hidden).parameters:
            raise InputError("the model's hidden takes no cache: use generate_plain, or give it one")
        check_slots(n_slots)
        self.config: GPTConfig = model.config
        self.n_slots = n_slots
        self._model = model
        self._caches = [make_cache(model.config.n_layers, model.config.context_length) for _ in range(n_slots)]

    def forward(self, spans: Sequence[Span]) -> NDArray[np.float32]:
        """See `Runner`."""
        with torch.inference_mode(), OneDnnLinear():
            return torch.cat([self._scores(span) for span in spans]).float().cpu().numpy()

    def _scores(self, span: Span) -> torch.Tensor:
        cache = self._caches[span.slot]
        for layer in cache:
            layer.length = span.start  # what came after is forgotten
        ids = torch.tensor([span.ids], device=self._model.output_head.weight.device)  # (1, T)
        hidden = self._model.hidden(ids, cache)[0]  # (T, C)
        return self._model.output_head(hidden[len(span.ids) - span.n_logits :])  # (n_logits, V)

    def copy(self, source: int, target: int, length: int) -> None:
        """See `Runner`."""
        with torch.inference_mode():
            for theirs, ours in zip(self._caches[source], self._caches[target]):
                ours.copy_from(theirs, length)
