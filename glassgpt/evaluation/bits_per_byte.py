"""Bits per byte: how many bits the model needs for a byte of text it has not seen.

Unlike the loss per token it does not depend on the tokenizer, so any two models can be compared on a text.
The text is cut into consecutive windows of `context_length` that do not overlap, each seeing only itself; the
last short one counts. The first token is context only. A separator between documents costs nats and has no bytes.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from glassgpt.config import GPTConfig
from glassgpt.data.shards import Ids
from glassgpt.model import GPTModel
from glassgpt.ops.linear import OneDnnLinear
from glassgpt.settings import InputError


@dataclass(frozen=True)
class Evaluation:
    """What a text costs a model."""

    nats: float
    """Sum of -log p over all targets."""
    tokens: int
    """Targets: all tokens but the first."""
    bytes: int
    """UTF-8 bytes of the targets."""

    def __add__(self, other: "Evaluation") -> "Evaluation":
        """Of both texts, neither seen from the other."""
        return Evaluation(self.nats + other.nats, self.tokens + other.tokens, self.bytes + other.bytes)

    @property
    def loss(self) -> float:
        """Nats per token."""
        return self.nats / self.tokens

    @property
    def perplexity(self) -> float:
        return math.exp(min(self.loss, 700.0))

    @property
    def bits_per_byte(self) -> float:
        return self.nats / math.log(2) / max(1, self.bytes)


class Stopped(Exception):
    """The caller asked an evaluation to stop."""


NatsOf = Callable[[Tensor, Tensor], float]
"""The sum of -log p of targets (B, T) after ids (B, T)."""


@torch.inference_mode()
def evaluate(
    model: GPTModel,
    ids: Ids,
    token_bytes: np.ndarray,
    *,
    device: str = "cpu",
    stop: Callable[[], bool] = lambda: False,
    nats_of: NatsOf | None = None,
) -> Evaluation:
    """Evaluate `model` on all of `ids`. `token_bytes[id]` is the number of UTF-8 bytes of a token.

    Logits in fp32, the sum in float64. `nats_of` computes in the model's stead, where there is something faster that is
    as exact. The model is put into eval mode and back into the mode it was in.
    Raises InputError for fewer than two tokens or an id outside the vocabulary, Stopped when `stop()` says so.
    """

    def nats_of_model(inputs: Tensor, targets: Tensor) -> float:
        with OneDnnLinear():
            logits = model.output_head(model.hidden(inputs)).float().flatten(0, 1)
        losses = F.cross_entropy(logits, targets.flatten(), reduction="none")
        return float(losses.double().sum())

    was_training = model.training
    model.eval()
    try:
        return evaluate_with(nats_of or nats_of_model, model.config, ids, token_bytes, device=device, stop=stop)
    finally:
        model.train(was_training)


def evaluate_with(
    nats_of: NatsOf,
    config: GPTConfig,
    ids: Ids,
    token_bytes: np.ndarray,
    *,
    device: str = "cpu",
    stop: Callable[[], bool] = lambda: False,
) -> Evaluation:
    """`evaluate`, of whatever computes `nats_of` for a model of `config`."""
    if len(ids) < 2:
        raise InputError(f"the text has {len(ids)} tokens, but to predict one takes at least 2: give a longer text")
    if int(ids.max()) >= config.vocab_size:
        raise InputError(
            f"token id {int(ids.max())} is outside the model's vocabulary of {config.vocab_size}: "
            "use the tokenizer that the model was trained with"
        )
    length = config.context_length
    n_windows = (len(ids) - 1) // length
    whole = n_windows * length
    rows = max(1, min(8192 // length, 2**24 // (config.vocab_size * length)))  # bounds the logits of a call
    nats = 0.0
    starts = [*range(0, whole, rows * length), *([whole] if whole < len(ids) - 1 else [])]
    for start in starts:
        if stop():
            raise Stopped
        end = min(start + rows * length, whole) if start < whole else len(ids) - 1
        shape = (-1, length) if start < whole else (1, -1)
        inputs = torch.from_numpy(ids[start:end].astype(np.int64)).view(shape).to(device)
        targets = torch.from_numpy(ids[start + 1 : end + 1].astype(np.int64)).to(device)
        nats += nats_of(inputs, targets.view_as(inputs))
    return Evaluation(nats, len(ids) - 1, int(token_bytes[ids[1:]].sum()))
