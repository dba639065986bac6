"""What a model does with a prompt: probabilities, attention, logit lens, norms, ablation, neighbours, as numpy arrays."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glassgpt.model import GPTModel

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class XRay:
    """What was seen of one prompt.

    T tokens of the prompt, L layers, H heads, A alternatives, N neighbours. Probabilities are the model's own, at
    temperature 1. What a prompt of one token has no next token for is nan, or has no columns.
    """

    ids: Ints
    """The prompt, (T,)."""

    probabilities: Floats
    """Of the token that came next, (T - 1,): entry t belongs to ids[t + 1]."""
    ranks: Ints
    """Of the same token, (T - 1,); 1 is the likeliest. Equals share a rank."""
    nats: Floats
    """-log of its probability, (T - 1,)."""
    top_ids: Ints
    """The likeliest tokens after each position, likeliest first, (T, A)."""
    top_probabilities: Floats
    """(T, A)."""

    attention: Floats
    """Weights, (L, H, T, T): the row is the token that looks, the column what it looks at."""
    previous_token: Floats
    """How much a head looks at the token before, on average over the prompt, (L, H)."""
    first_token: Floats
    """How much it looks at the first token, (L, H)."""
    induction: Floats
    """How much it looks at what followed the same token before, on random tokens said twice, (L, H)."""

    lens_ids: Ints
    """The logit lens: likeliest tokens if the model ended before block 0 and after each block, (L + 1, T, A)."""
    lens_probabilities: Floats
    """(L + 1, T, A)."""
    lens_true: Floats
    """The probability of the token that came next if the model ended there, (L + 1, T - 1)."""

    residual_norms: Floats
    """Length (L2) of the residual stream after the embedding, then after the attention and the feed-forward of each
    block, (2 L + 1, T)."""
    attention_norms: Floats
    """Length of what the attention of each block adds to the stream, (L, T)."""
    feed_forward_norms: Floats
    """Length of what the feed-forward of each block adds, (L, T)."""
    embedding_norms: Floats
    """Length of what the token embedding adds, (T,)."""

    head_ablation: Floats | None
    """How much the mean nats rise when a head's output is zero, (L, H); positive: it helped. None where it was not
    asked for."""
    attention_ablation: Floats | None
    """The same of all heads of a layer, biases included, (L,)."""
    feed_forward_ablation: Floats | None
    """The same of its feed-forward, (L,)."""

    neighbour_ids: Ints
    """The tokens nearest to each token of the prompt in the token embedding, nearest first, (T, N)."""
    neighbour_cosines: Floats
    """The cosine of the angle between them, (T, N)."""


def xray(model: GPTModel, ids: Sequence[int], *, n_alternatives: int = 10, ablate: bool = True) -> XRay:
    """Look at what `model` does with the prompt `ids`."""
    raise NotImplementedError
