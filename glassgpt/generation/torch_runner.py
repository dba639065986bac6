"""Many texts at once on PyTorch: for CUDA, for MPS, and for a CPU without the native decoder.

The spans of a pass come in two kinds. A long one, a piece of a prompt, keeps the device busy and goes through the
model alone, as in plain generation. Short ones of equal length, above all the newest token of every text, go through
together, each at positions of its own (`generation.slots`).

On CUDA such a pass is hundreds of kernels, each of them short. So the passes of one token a text are recorded and
replayed (`generation.cuda_graphs`): one recording for each number of rows and of keys in sight, both rounded up to
powers of two. Rows without a text compute what nobody reads.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glassgpt.checkpoint.empty import is_builtin
from glassgpt.generation.cuda_graphs import CudaGraphs
from glassgpt.generation.runner import check_slots
from glassgpt.generation.sampling import choose
from glassgpt.generation.slots import ALIGNED, SlotCache
from glassgpt.generation.torch_sampling import Draw, choose_together
from glassgpt.model import GPTModel
from glassgpt.native.spans import Span
from glassgpt.ops.linear import OneDnnLinear
from glassgpt.settings import InputError

LONG = 32
"""Spans of more tokens than this go through the model alone."""

FEWEST_KEYS = 256
"""The least number of keys in sight that is recorded."""

Replay = Callable[[Hashable, Callable[[Tensor], Tensor], Tensor], Tensor]
"""(key, function, x) -> function(x), where what the function does depends on the key and x alone."""


def weights_dtype(device: torch.device) -> torch.dtype:
    """The precision to write in on this device: bf16, half the bytes to read for a token, where it has it."""
    fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if fast else torch.float32


class TorchRunner:
    """A `generation.runner.Runner` of a GPTModel in evaluation mode, on its device and in its precision.

    Passes of one token a text go through `replay`; None: recorded on CUDA, computed as they come elsewhere.
    Raises InputError for a model with parts of the user's own, which may not know of texts of different lengths (plain
    generation does), for n_slots below 1 or above 4,096, and where the cache, all of which is made here, does not fit
    the device.
    """

    def __init__(self, model: GPTModel, *, n_slots: int = 1, replay: Replay | None = None) -> None:
        if not is_builtin(model):
            raise InputError("a model with parts of its own writes one text at a time: use generation.generate")
        if model.training:
            raise InputError("the model is in training mode, where dropout disturbs it: call model.eval() first")
        check_slots(n_slots)
        self.config = model.config
        self.n_slots = n_slots
        weight = model.token_embedding.weight
        self._model, self._device = model, weight.device
        self._cache = SlotCache(model.config, n_slots, weight.device, weight.dtype)
        self._held = [0] * n_slots  # positions in use of each slot
        self._replay = CudaGraphs() if replay is None and weight.device.type == "cuda" else replay

    def forward(self, spans: Sequence[Span]) -> NDArray[np.float32]:
        """The scores that the spans want, one after the other, (sum of n_logits, V)."""
        with torch.inference_mode(), OneDnnLinear():
            return self._logits(spans).float().cpu().numpy()

    def next_tokens(self, spans: Sequence[Span], draws: Sequence[Draw]) -> list[int]:
        """What `choose` makes of each row of scores; on CUDA the scores stay on the device."""
        with torch.inference_mode(), OneDnnLinear():
            logits = self._logits(spans)
            if self._device.type == "cuda":
                return choose_together(logits, draws)
            rows = logits.float().cpu().numpy()
        return [choose(row, draw.sampling, draw.sequence, draw.ids) for row, draw in zip(rows, draws, strict=True)]

    def copy(self, source: int, target: int, length: int) -> None:
        """Slot `target` now holds the first `length` positions of slot `source`, and nothing else."""
        if not 0 <= length <= self._held[source]:
            raise ValueError(f"slot {source} holds {self._held[source]} positions, not {length}")
        if source != target:
            with torch.inference_mode():
                self._cache.copy(source, target, length)
        self._held[target] = length

    def _logits(self, spans: Sequence[Span]) -> Tensor:
        self._check(spans)
        wanted: dict[int, Tensor] = {}  # slot -> (n_logits, C)
        for group in _groups(spans):
            for span in group:
                self._held[span.slot] = span.start  # should the pass fail, the rest of the slot is lost
            for span, hidden in zip(group, self._hidden(group), strict=True):
                self._held[span.slot] += len(span.ids)
                wanted[span.slot] = hidden[len(span.ids) - span.n_logits :]
        rows = [wanted[span.slot] for span in spans if span.n_logits]
        if not rows:
            return torch.empty(0, self.config.vocab_size)
        return self._model.output_head(torch.cat(rows))  # (sum of n_logits, V)

    def _hidden(self, group: list[Span]) -> Iterable[Tensor]:
        """The context vectors (T, C) of each of these spans, which are of one length."""
        n_tokens = len(group[0].ids)
        replay = self._replay if n_tokens == 1 else None
        if len(group) == 1 and replay is None:
            (span,) = group
            ids = torch.tensor([span.ids], device=self._device)  # (1, T)
            return self._model.hidden(ids, self._cache.of_slot(span.slot, span.start))

        longest = max(span.start for span in group)
        n_keys = -(-(longest + n_tokens) // ALIGNED) * ALIGNED
        if replay:
            n_keys = min(_power_of_two(max(n_keys, FEWEST_KEYS)), self._cache.capacity)
        rows, adjacent = self._rows([span.slot for span in group], recorded=replay is not None)
        row_of = {slot: row for row, slot in enumerate(rows)}
        x = np.zeros((3, len(rows), n_tokens), dtype=np.int64)
        ids, places, slots = x
        places[:] = self._cache.nowhere
        slots[:, 0] = rows
        for span in group:
            ids[row_of[span.slot]] = span.ids
            places[row_of[span.slot]] = range(span.start, span.start + n_tokens)

        def compute(x: Tensor) -> Tensor:
            ids, places, slots = x
            slots = slice(rows[0], rows[-1] + 1) if adjacent else slots[:, 0]
            return self._model.hidden(ids, self._cache.of_slots(slots, places, n_keys, longest))  # (B, T, C)

        on_device = torch.from_numpy(x).to(self._device)
        hidden = replay((len(rows), n_keys, adjacent), compute, on_device) if replay else compute(on_device)
        return [hidden[row_of[span.slot]] for span in group]

    def _rows(self, slots: list[int], recorded: bool) -> tuple[list[int], bool]:
        """The slot of each row of a batch for these, and whether they lie side by side.

        Then their keys need not be copied together, which is worth as many rows without a text as with one.
        """
        n_rows = _power_of_two(len(slots)) if recorded else len(slots)
        first = 0 if recorded else min(slots)
        end = min(_power_of_two(max(slots) + 1), self.n_slots) if recorded else max(slots) + 1
        if end - first <= 2 * n_rows:
            return list(range(first, end)), True
        return [slots[0]] * (n_rows - len(slots)) + slots, False

    def _check(self, spans: Sequence[Span]) -> None:
        """Raises ValueError for spans that cannot be: a bug of the caller's."""
        if len({span.slot for span in spans}) < len(spans):
            raise ValueError("a slot comes twice in a pass")
        for span in spans:
            if not 0 <= span.slot < self.n_slots:
                raise ValueError(f"slot {span.slot} of a cache with {self.n_slots}")
            if not 0 <= span.start <= self._held[span.slot]:
                raise ValueError(f"slot {span.slot} holds {self._held[span.slot]} positions, not {span.start}")
            if not 0 < len(span.ids) <= self.config.context_length - span.start:
                raise ValueError(f"{len(span.ids)} tokens at {span.start} of a context of {self.config.context_length}")
            if not 0 <= span.n_logits <= len(span.ids):
                raise ValueError(f"scores of {span.n_logits} tokens of {len(span.ids)}")
            if min(span.ids) < 0 or max(span.ids) >= self.config.vocab_size:
                raise ValueError(f"a token is not in the vocabulary of {self.config.vocab_size}")


def _groups(spans: Sequence[Span]) -> list[list[Span]]:
    """The spans that go through the model together."""
    alone = [[span] for span in spans if len(span.ids) > LONG]
    short: dict[int, list[Span]] = {}
    for span in spans:
        if len(span.ids) <= LONG:
            short.setdefault(len(span.ids), []).append(span)
    return [*alone, *short.values()]


def _power_of_two(n: int) -> int:
    """The least power of two from `n` on."""
    return 1 << (n - 1).bit_length()
