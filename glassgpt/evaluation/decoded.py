"""What a text costs a model on the native decoder, all of whose roundings then count."""

import torch
import torch.nn.functional as F
from torch import Tensor

from glassgpt.evaluation.bits_per_byte import NatsOf
from glassgpt.native.decoder import Decoder
from glassgpt.native.spans import Span

_SCORES = 2**23
"""Of one call, at most: a long window of a large vocabulary is cut, which changes no bit."""


def nats_on(decoder: Decoder) -> NatsOf:
    """What `evaluate_with` asks, computed in slot 0 of `decoder`."""
    a_time = max(1, min(decoder.max_rows, _SCORES // decoder.config.vocab_size))

    def nats_of(ids: Tensor, targets: Tensor) -> float:
        nats = 0.0
        for window, follows in zip(ids, targets, strict=True):
            for start in range(0, len(window), a_time):
                part = window[start : start + a_time].tolist()
                logits = torch.from_numpy(decoder.forward([Span(0, start, part, len(part))]))  # (T, V)
                losses = F.cross_entropy(logits, follows[start : start + a_time], reduction="none")
                nats += float(losses.double().sum())
        return nats

    return nats_of
