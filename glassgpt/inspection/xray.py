"""What a model does with a prompt, as numpy arrays: all that is seen of it, gathered from the files of this room.

    observed.py    one pass through the model, watched from outside
    heads.py       what kind of head each is, by where it looks
    lens.py        what the model would say if it ended after each layer
    ablation.py    how much worse it predicts without a part
    neighbours.py  which tokens lie beside each other in the embedding
"""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glassgpt.inspection.ablation import Ablation, Progress, ablation, ablation_flops
from glassgpt.inspection.heads import first_token_scores, induction_scores, previous_token_scores
from glassgpt.inspection.lens import Lens, lens
from glassgpt.inspection.neighbours import neighbours
from glassgpt.inspection.observed import observe
from glassgpt.model import GPTModel
from glassgpt.ops.linear import OneDnnLinear
from glassgpt.settings import InputError, shown

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Ablate = Literal["auto", "heads", "layers", "nothing"]

MOST_FLOPS = 1e12
"""That "auto" spends on ablating heads: two or three seconds on two cores."""


@dataclass(frozen=True, kw_only=True)
class XRay:
    """What was seen of one prompt.

    T tokens of the prompt, L layers, H heads, A alternatives, N neighbours. Probabilities are the model's own, at
    temperature 1. A prompt of one token has no next one: then T - 1 = 0, and scores and ablations are nan.
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
    """How much a head looks at the token before, (L, H): the mean over all tokens but the first."""
    first_token: Floats
    """How much it looks at the first token, (L, H): the same mean."""
    induction: Floats
    """How much it looks at what followed the same token before, (L, H), on random tokens said twice (`heads.py`)."""

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
    """The same of all heads of a layer, biases included, (L,); None where nothing was ablated."""
    feed_forward_ablation: Floats | None
    """The same of its feed-forward, (L,)."""

    neighbour_ids: Ints
    """The tokens nearest to each token of the prompt in the token embedding, nearest first, (T, N)."""
    neighbour_cosines: Floats
    """The cosine of the angle between them, (T, N)."""


def xray(
    model: GPTModel,
    ids: Sequence[int],
    *,
    n_alternatives: int = 10,
    ablate: Ablate = "heads",
    progress: Progress | None = None,
) -> XRay:
    """Look at what `model` does with the prompt `ids`.

    The model is put into eval mode and back into the mode it was in. `ablate` says of what the loss without
    it is measured: every head and every layer ("heads"), layers alone ("layers"), or "nothing". That takes most of the
    time: all layers after a part are computed once more without it. "auto" is "heads" where these are few FLOPs.
    `progress` is then called with how many parts were ablated, and of how many.
    Raises InputError for ids that are none, too many or not in the vocabulary, and for a model whose blocks are not
    built as those of GPTModel.
    """
    checked = _checked(model, ids)
    if not hasattr(n_alternatives, "__index__") or n_alternatives < 1:
        raise InputError(f"n_alternatives is {shown(n_alternatives)}, but must be a whole number from 1")
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode(), OneDnnLinear():
            n = min(n_alternatives, model.config.vocab_size)
            return _xray(model, torch.tensor(checked), n, ablate, progress)
    finally:
        model.train(was_training)


def _xray(model: GPTModel, ids: Tensor, n_alternatives: int, ablate: Ablate, progress: Progress | None) -> XRay:
    seen = observe(model, ids)
    targets = seen.ids[1:]
    found: Lens = lens(model, seen.layers, targets, n_alternatives)
    if ablate == "auto":
        ablate = "heads" if ablation_flops(model.config, len(ids)) <= MOST_FLOPS else "layers"
    without: Ablation | None = None
    if ablate != "nothing":
        without = ablation(model, seen, targets, ablate == "heads", progress)
    neighbour_ids, cosines = neighbours(model.token_embedding, seen.ids, model.config.vocab_size)
    return XRay(
        ids=_ints(seen.ids),
        probabilities=_floats(found.true[-1]),
        ranks=_ints(found.ranks),
        nats=_floats(found.nats),
        top_ids=_ints(found.ids[-1]),
        top_probabilities=_floats(found.probabilities[-1]),
        attention=_floats(seen.weights),
        previous_token=_floats(previous_token_scores(seen.weights)),
        first_token=_floats(first_token_scores(seen.weights)),
        induction=_floats(induction_scores(model)),
        lens_ids=_ints(found.ids),
        lens_probabilities=_floats(found.probabilities),
        lens_true=_floats(found.true),
        residual_norms=_floats(seen.stream.float().norm(dim=-1)),
        attention_norms=_floats(seen.attention.float().norm(dim=-1)),
        feed_forward_norms=_floats(seen.feed_forward.float().norm(dim=-1)),
        embedding_norms=_floats(seen.embedding.float().norm(dim=-1)),
        head_ablation=_floats(without.heads) if without and without.heads is not None else None,
        attention_ablation=_floats(without.attention) if without else None,
        feed_forward_ablation=_floats(without.feed_forward) if without else None,
        neighbour_ids=_ints(neighbour_ids),
        neighbour_cosines=_floats(cosines),
    )


def _checked(model: GPTModel, ids: Sequence[int]) -> list[int]:
    """The ids as whole numbers. Raises InputError where the model cannot read them."""
    length, config = len(ids), model.config
    if not length:
        raise InputError("the prompt has no tokens, but needs at least one: begin with the end-of-text token")
    if length > config.context_length:
        raise InputError(
            f"the prompt has {length} tokens, but the model's context_length is {config.context_length}: "
            f"leave out {length - config.context_length} of them, or take a model with a longer context"
        )
    try:
        checked = [operator.index(token) for token in ids]
    except TypeError:
        raise InputError("the prompt has a token that is no whole number: give the ids of tokens") from None
    for token in checked:
        if not 0 <= token < config.vocab_size:
            raise InputError(
                f"token {token} is not in the model's vocabulary of {config.vocab_size}: use its own tokenizer"
            )
    return checked


def _floats(values: Tensor) -> Floats:
    return values.detach().float().cpu().numpy()


def _ints(values: Tensor) -> Ints:
    return values.cpu().numpy()
