"""How much worse the model predicts the prompt without a part of it: exactly, by running it without.

The output of a head, of all heads of a layer, or of its feed-forward is set to zero, and what comes after it is
computed again. What came before is as it was, so each begins with the stream that was seen there; the heads of a layer
go through the later layers as one batch. The last token of the prompt has no next one, and no other sees it: it is
left out.

T tokens without the last, L layers, H heads, D width of a head, C embedding_dim, V vocab_size.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glassgpt.config import GPTConfig
from glassgpt.inspection.observed import Observed
from glassgpt.model import GPTModel
from glassgpt.planning.flops import flops_per_token
from glassgpt.quantization.modules import QuantizedLinear

ROWS = 1024
"""Tokens that go through the layers at a time."""
Progress = Callable[[int, int], None]
"""Told after each step how many parts were ablated, and of how many."""
LOGITS = 2**20
"""That are there at a time: a slice of the vocabulary's for all rows, which stays in the cache."""


@dataclass(frozen=True)
class Ablation:
    """By how much the mean nats rise."""

    heads: Tensor | None
    """(L, H); None where only layers were asked for."""
    attention: Tensor
    """(L,)."""
    feed_forward: Tensor
    """(L,)."""


def ablation(
    model: GPTModel, seen: Observed, targets: Tensor, with_heads: bool = True, progress: Progress | None = None
) -> Ablation:
    """Ablate every layer, and `with_heads` every head, where `targets` (T,) followed; nan where none did."""
    n_heads, a_time = seen.weights.shape[1] if with_heads else 0, max(1, ROWS // max(1, len(targets)))
    usual = mean_nats(model, seen.stream[-1:, :-1], targets)
    rises = []
    blocks: list[Any] = [*model.blocks]
    for layer, block in enumerate(blocks):
        before, middle = seen.stream[2 * layer, :-1], seen.stream[2 * layer + 1, :-1]  # (T, C)
        middles = before[None]  # without all heads
        if n_heads:
            contexts = without_each_head(seen.contexts[layer, :-1], n_heads)  # (H, T, H D)
            middles = torch.cat([before + block.attention.output_projection(contexts), middles])  # (H + 1, T, C)
        afters = [part + block.feed_forward(block.feed_forward_norm(part)) for part in middles.split(a_time)]
        afters = torch.cat([*afters, middle[None]])  # (H + 2, T, C)
        nats: list[Tensor] = []
        for part in afters.split(a_time):
            nats.append(mean_nats(model, _through(blocks[layer + 1 :], part), targets))
            if progress:
                progress(layer * len(afters) + min(len(nats) * a_time, len(afters)), len(blocks) * len(afters))
        rises.append(torch.cat(nats) - usual)
    rise = torch.stack(rises)  # (L, H + 2)
    return Ablation(rise[:, :n_heads] if with_heads else None, rise[:, n_heads], rise[:, n_heads + 1])


def ablation_flops(config: GPTConfig, n_tokens: int) -> float:
    """What it takes with heads: on average half of the blocks once more for each part of each layer, and the head."""
    forward = flops_per_token(config, n_tokens)["forward"]
    output_head = 2 * config.embedding_dim * config.vocab_size
    return n_tokens * config.n_layers * (config.n_heads + 2) * (forward + output_head) / 2


def without_each_head(contexts: Tensor, n_heads: int) -> Tensor:
    """What the heads gathered, (T, H D), once without each: (H, T, H D)."""
    kept = 1 - torch.eye(n_heads, dtype=contexts.dtype, device=contexts.device)
    return (contexts.unflatten(-1, (n_heads, -1)) * kept[:, None, :, None]).flatten(-2)


def mean_nats(model: GPTModel, streams: Tensor, targets: Tensor) -> Tensor:
    """The mean nats of `targets` (T,) for each of the last streams (N, T, C): (N,)."""
    hidden = model.final_norm(streams)
    return nats(model.output_head, hidden.flatten(0, 1), targets.repeat(len(streams))).view(len(streams), -1).mean(-1)


def nats(head: nn.Module, hidden: Tensor, targets: Tensor) -> Tensor:
    """-log of the probability of each target, (N,), from hidden (N, C).

    A slice of the vocabulary at a time, of which only the sum of the exponentials is kept, divided by that of the
    largest logit so far: all logits of a batch would be its largest tensor by far, and be read from memory twice.
    """
    largest = torch.full((len(hidden), 1), -torch.inf, device=hidden.device)
    total = torch.zeros_like(largest)
    of_target = torch.zeros_like(largest)
    width = max(256, LOGITS // max(1, len(hidden)))
    for start, weight in _slices(head, width):
        logits = F.linear(hidden, weight).float()  # (N, width)
        here = (targets >= start) & (targets < start + len(weight))
        index = (targets - start).clamp(0, len(weight) - 1)[:, None]
        of_target = torch.where(here[:, None], logits.gather(1, index), of_target)
        top = torch.maximum(largest, logits.amax(dim=-1, keepdim=True))
        total = total * (largest - top).exp() + logits.sub_(top).exp_().sum(dim=-1, keepdim=True)
        largest = top
    return (largest + total.log() - of_target).squeeze(1)


def _slices(head: Any, width: int) -> Iterator[tuple[int, Tensor]]:
    """`width` rows of the head's weight at a time, and the number of the first."""
    n_rows = head.matrix.n_rows if isinstance(head, QuantizedLinear) else head.weight.shape[0]
    for start in range(0, n_rows, width):
        rows = slice(start, min(start + width, n_rows))
        yield start, head.matrix.rows(rows) if isinstance(head, QuantizedLinear) else head.weight[rows]


def _through(blocks: Iterable[nn.Module], x: Tensor) -> Tensor:
    for block in blocks:
        x = block(x)  # (N, T, C)
    return x
