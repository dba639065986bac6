"""How each part of a model fares while it trains: what it is taught, how far it moves, what it lets through.

Two things are measured. `StepWatch` looks at one step of training: the gradient of each part, and by which share of
its size its weights moved. `activations` sends some of the validation text through the model and looks at what comes
out of each block. Neither draws a random number nor changes anything, so a run has the same bits with and without.
What a model of the user's own does not have (`blocks`, a `feed_forward.down`) is left out.

One line of health.jsonl an evaluation:

    {"step", "layers": [{"gradient_norm", "update_ratio", "activation_norm", "dead_units"}, ... one a block],
     "embedding": {"gradient_norm", "update_ratio"}, "head": {the same}, "train_bpb", "val_bpb"}
"""

import functools
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from glassgpt.data.shards import Ids
from glassgpt.model import GPTModel
from glassgpt.ops.linear import OneDnnLinear

SAMPLED = 2**16
"""Numbers of a matrix, in rows at equal distances, whose change stands for the change of all."""
TOKENS = 2048
"""Of the validation text that `activations` looks at, or one window where that is longer."""
AT_A_TIME = 512
"""Of them go through the model, or one window: looking takes less memory than training."""
DEAD = 1e-3
"""A unit of a feed-forward that stays this near to 0 for every token adds nothing. Living ones reach 0.1 and more."""

StepHealth = dict[str, Any]
"""What `StepWatch` measured: "layers", a list, "embedding" and "head", each with "gradient_norm" and "update_ratio"."""


class StepWatch:
    """Looks at a model before and after an update."""

    def __init__(self, model: GPTModel) -> None:
        parts: list[Any] = [*blocks_of(model), getattr(model, "token_embedding", None), model.output_head]
        self.parts = [[*part.parameters()] if isinstance(part, nn.Module) else [] for part in parts]
        self._norms: list[float | None] = []
        self._before: list[list[Tensor]] = []

    @torch.no_grad()
    def before_update(self) -> None:
        """Measure the gradients, which the optimiser may overwrite, and keep a sample of the weights."""
        self._norms = [_norm([p.grad for p in part if p.grad is not None]) for part in self.parts]
        self._before = [[_sample(p).clone() for p in part if p.dim() == 2] for part in self.parts]

    @torch.no_grad()
    def after_update(self) -> StepHealth:
        """What the step did, by part."""
        found = []
        for part, norm, before in zip(self.parts, self._norms, self._before, strict=True):
            after = [_sample(p) for p in part if p.dim() == 2]
            moved = _norm([new - old for new, old in zip(after, before, strict=True)])
            size = _norm(before)
            ratio = moved / max(size, 1e-30) if moved is not None and size is not None else None
            values = {"gradient_norm": norm, "update_ratio": ratio}
            found.append({name: value for name, value in values.items() if value is not None})
        self._before = []
        *layers, embedding, head = found
        return {"layers": layers, "embedding": embedding, "head": head}


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The blocks of a model; none where it is one of the user's own that has nothing of that name."""
    blocks: Any = getattr(model, "blocks", None)
    return [*blocks] if isinstance(blocks, nn.ModuleList) else []


def windows(ids: Ids, context_length: int) -> Tensor:
    """The first TOKENS of `ids` in windows of `context_length`, (B, T) int64; one window at least."""
    length = min(context_length, len(ids))
    n = max(1, min(TOKENS, len(ids)) // length)
    return torch.from_numpy(np.asarray(ids[: n * length]).astype(np.int64)).view(n, length)


@torch.inference_mode()
def activations(model: GPTModel, ids: Tensor) -> list[dict[str, float]]:
    """Of each block for `ids` (B, T): the RMS of the residual stream after it, and the share of dead units in it."""
    blocks = blocks_of(model)
    squares, counts = [0.0] * len(blocks), [0] * len(blocks)
    highest: list[list[Tensor]] = [[] for _ in blocks]  # of each unit in each part, (F,)

    def after_block(layer: int, _: nn.Module, __: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            squares[layer] += float(output.float().square().sum())
            counts[layer] += output.numel()

    def before_down(layer: int, _: nn.Module, given: Any) -> None:
        highest[layer].append(given[0].float().abs().flatten(0, -2).amax(0))

    hooks = []
    for layer, block in enumerate(blocks):
        hooks.append(block.register_forward_hook(functools.partial(after_block, layer)))
        down: Any = getattr(getattr(block, "feed_forward", None), "down", None)
        if isinstance(down, nn.Module):
            hooks.append(down.register_forward_pre_hook(functools.partial(before_down, layer)))
    was_training = model.training
    model.eval()
    try:
        with OneDnnLinear():
            for part in ids.split(max(1, AT_A_TIME // ids.shape[1])):
                model.hidden(part)
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    found: list[dict[str, float]] = []
    for square, count, units in zip(squares, counts, highest, strict=True):
        values = {"activation_norm": (square / count) ** 0.5} if count else {}
        if units:
            values["dead_units"] = float((torch.stack(units).amax(0) <= DEAD).float().mean())
        found.append(values)
    return found


def _sample(weight: Tensor) -> Tensor:
    """Rows at equal distances, SAMPLED numbers or a little more."""
    return weight.detach()[:: max(1, weight.numel() // SAMPLED)]


def _norm(tensors: list[Tensor]) -> float | None:
    """Of all numbers together; None where there are none."""
    return float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(tensors)))) if tensors else None
