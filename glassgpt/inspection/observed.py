"""One pass of a prompt through a model, watched from outside: hooks see what flows between its parts.

Nothing is computed here that the model does not compute itself; what is seen is then checked against what the names of
the parts promise (a block adds what its attention and its feed-forward give to the stream), so that a model of the
user's own that works otherwise is refused, not shown wrongly.

T tokens, L layers, H heads, D width of a head, C embedding_dim.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from glassgpt.model import GPTModel
from glassgpt.settings import InputError

PARTS = ("attention.attend", "attention.output_projection", "attention_norm", "feed_forward", "feed_forward_norm")
"""Of a block; the X-ray knows no more of it."""


@dataclass(frozen=True)
class Observed:
    """What was seen, in the dtype of the model and on its device."""

    ids: Tensor
    """(T,)."""
    embedding: Tensor
    """What the token embedding gave, (T, C)."""
    stream: Tensor
    """The residual stream after the embedding, then after the attention and the feed-forward of each block,
    (2 L + 1, T, C)."""
    attention: Tensor
    """What the attention of each block added, (L, T, C)."""
    feed_forward: Tensor
    """What the feed-forward added, (L, T, C)."""
    contexts: Tensor
    """What the heads of each block gathered, side by side, before the output projection, (L, T, H D)."""
    weights: Tensor
    """How much each token looks at each, (L, H, T, T)."""

    @property
    def layers(self) -> Tensor:
        """The stream before block 0 and after each block, (L + 1, T, C)."""
        return self.stream[::2]


def observe(model: GPTModel, ids: Tensor) -> Observed:
    """What flows through `model`, which is in eval mode, when it reads `ids` (T,).

    Raises InputError where it is not built as GPTModel is.
    """
    _require_parts(model)
    blocks: list[Any] = [*model.blocks]
    ids = ids.to(device_of(model))
    seen: dict[str, Tensor] = {}
    with ExitStack() as stack:

        def see(module: nn.Module, name: str, of_input: bool = False) -> None:
            stack.enter_context(_watched(module, name, seen, of_input))

        see(model.token_embedding, "embedding")
        see(model.final_norm, "last", of_input=True)
        for layer, block in enumerate(blocks):
            see(block, f"before {layer}", of_input=True)
            see(block.attention, f"attention {layer}")
            see(block.attention.output_projection, f"context {layer}", of_input=True)
            see(block.feed_forward_norm, f"middle {layer}", of_input=True)
            see(block.feed_forward, f"feed_forward {layer}")
            see(block, f"after {layer}")
            stack.enter_context(_watched_attention(block.attention, f"weights {layer}", seen))
        hidden = model.hidden(ids.unsqueeze(0))
    of_block = ("before", "attention", "context", "middle", "feed_forward", "after", "weights")
    for name in ("embedding", "last", *(f"{part} {layer}" for layer in range(len(blocks)) for part in of_block)):
        if name not in seen:
            raise _otherwise(f"its {name.replace(' ', ' of block ')} was not seen")
    _check_sums(model, seen, hidden)
    streams = [seen["before 0"]]
    for layer in range(len(blocks)):
        streams += [seen[f"middle {layer}"], seen[f"after {layer}"]]

    def gathered(part: str) -> Tensor:
        return torch.cat([seen[f"{part} {layer}"] for layer in range(len(blocks))])

    return Observed(
        ids=ids,
        embedding=seen["embedding"][0],
        stream=torch.cat(streams),
        attention=gathered("attention"),
        feed_forward=gathered("feed_forward"),
        contexts=gathered("context"),
        weights=gathered("weights"),
    )


def device_of(model: nn.Module) -> torch.device:
    """Where its weights lie."""
    return next(chain(model.parameters(), model.buffers())).device


@contextmanager
def _watched(module: nn.Module, name: str, seen: dict[str, Tensor], of_input: bool) -> Iterator[None]:
    """Inside, what goes into `module`, or comes out of it, is kept under `name`."""

    def keep(_: nn.Module, inputs: Any, output: Any = None) -> None:
        seen[name] = inputs[0] if of_input else output

    hook = module.register_forward_pre_hook(keep) if of_input else module.register_forward_hook(keep)
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def _watched_attention(attention: Any, name: str, seen: dict[str, Tensor]) -> Iterator[None]:
    """Inside, the weights of the attention are kept under `name`, and what follows from them is compared.

    Attention is linear in the values: where the value of each token is a vector of its own, with a 1 in its place and
    0 elsewhere, what a token gathers is its weights. So they are those of whatever `attend` does.
    """
    attend: Callable[[Tensor, Tensor, Tensor], Tensor] = attention.attend

    def watched(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        length = values.shape[2]
        marks = torch.eye(length, dtype=values.dtype, device=values.device).expand(*values.shape[:2], -1, -1)
        seen[name] = attend(queries, keys, marks)  # (1, H, T, T)
        context = attend(queries, keys, values)  # (1, H, T, D)
        by_weights = seen[name] @ values.repeat_interleave(context.shape[1] // values.shape[1], dim=1)
        if by_weights.shape != context.shape or not _close(by_weights, context):
            raise _otherwise("what a head gathers is no weighted sum of the values")
        return context

    attention.attend = watched
    try:
        yield
    finally:
        del attention.attend


def _require_parts(model: GPTModel) -> None:
    for name in ("token_embedding", "blocks", "final_norm", "output_head"):
        if not hasattr(model, name):
            raise _otherwise(f"it has no {name}")
    for layer, block in enumerate(model.blocks):
        for part in PARTS:
            place = block
            for name in part.split("."):
                place = getattr(place, name, None)
            if place is None:
                raise _otherwise(f"its block {layer} has no {part}")


def _check_sums(model: GPTModel, seen: dict[str, Tensor], hidden: Tensor) -> None:
    """Raise InputError where the stream is not the sum of what the parts gave."""
    blocks: list[Any] = [*model.blocks]
    for layer, block in enumerate(blocks):
        before, middle, after = (seen[f"{part} {layer}"] for part in ("before", "middle", "after"))
        added = seen[f"attention {layer}"], seen[f"feed_forward {layer}"]
        follows = seen[f"before {layer + 1}" if layer + 1 < len(blocks) else "last"]
        written = block.attention.output_projection(seen[f"context {layer}"])
        for left, right, what in (
            (before + added[0], middle, "its attention is not added to the stream"),
            (middle + added[1], after, "its feed-forward is not added to the stream"),
            (written, added[0], "its attention does not end with its output projection"),
            (after, follows, "something else comes after it"),
        ):
            if left.shape != right.shape or not _close(left, right):
                raise _otherwise(f"in block {layer}, {what}")
    if not _close(model.final_norm(seen["last"]), hidden):
        raise _otherwise("its final norm is not the last thing before the head")


def _close(one: Tensor, other: Tensor) -> bool:
    tolerance = 1e-4 if one.dtype == torch.float32 else 3e-2
    scale = max(1.0, float(other.abs().max()))
    return bool(((one - other).abs() <= tolerance * scale).all()) or not bool(other.isfinite().all())


def _otherwise(why: str) -> InputError:
    return InputError(f"the X-ray sees models that are built as glassgpt.model is, and this one is not: {why}")
