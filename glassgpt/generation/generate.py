"""Text, one token after the other: score what comes next, choose, append, repeat.

`generate_plain` is the chapter's loop and computes every position again for each token. `generate` keeps the
keys and values and computes the new position only. Both give the same tokens.
"""

import inspect
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from glassgpt.generation.cache import make_cache
from glassgpt.generation.sampling import Sampling, choose
from glassgpt.generation.sequence import Step, check_prompt, visible_start
from glassgpt.model import GPTModel, LayerCache
from glassgpt.ops.linear import OneDnnLinear
from glassgpt.settings import InputError


def generate(
    model: GPTModel,
    ids: Sequence[int],
    *,
    max_new_tokens: int,
    sampling: Sampling,
    stop: int | None = None,
    sequence: int = 0,
) -> Iterator[int]:
    """Continue the prompt `ids`, yielding each new token as soon as it is chosen.

    Ends after `max_new_tokens`, or where the model chooses the token `stop`, which is not yielded. Several
    samples of one prompt differ in `sequence`. The model must be in eval mode. A model of the user's whose `hidden`
    takes no cache writes without one.

    Raises InputError, before the first token, for a prompt that is empty, too long or holds an unknown id.
    """
    steps = generate_with_logits(
        model, ids, max_new_tokens=max_new_tokens, sampling=sampling, stop=stop, sequence=sequence
    )
    return (token for token, _ in steps)


def generate_with_logits(
    model: GPTModel,
    ids: Sequence[int],
    *,
    max_new_tokens: int,
    sampling: Sampling,
    stop: int | None = None,
    sequence: int = 0,
) -> Iterator[Step]:
    """The same, and with each token the model's own scores (V,) that it was chosen from."""
    _check(model, ids, max_new_tokens)
    if "cache" not in inspect.signature(model.hidden).parameters:
        return _plain(model, list(ids), max_new_tokens, sampling, stop, sequence)
    return _cached(model, list(ids), max_new_tokens, sampling, stop, sequence)


def generate_plain(
    model: GPTModel,
    ids: Sequence[int],
    *,
    max_new_tokens: int,
    sampling: Sampling,
    stop: int | None = None,
    sequence: int = 0,
) -> Iterator[int]:
    """The same without a cache, as the chapter does it."""
    _check(model, ids, max_new_tokens)
    return (token for token, _ in _plain(model, list(ids), max_new_tokens, sampling, stop, sequence))


def _plain(
    model: GPTModel, ids: list[int], max_new_tokens: int, sampling: Sampling, stop: int | None, sequence: int
) -> Iterator[Step]:
    for _ in range(max_new_tokens):
        start = visible_start(len(ids), model.config.context_length)
        logits = next_logits(model, ids[start:])
        token = choose(logits, sampling, sequence, ids)
        if token == stop:
            return
        ids.append(token)
        yield token, logits


def _cached(
    model: GPTModel, ids: list[int], max_new_tokens: int, sampling: Sampling, stop: int | None, sequence: int
) -> Iterator[Step]:
    context_length = model.config.context_length
    cache = make_cache(model.config.n_layers, min(context_length, len(ids) + max_new_tokens - 1))
    start = kept = 0  # the cache holds ids[start:kept]
    for _ in range(max_new_tokens):
        if start != visible_start(len(ids), context_length):
            start = kept = visible_start(len(ids), context_length)
            for layer in cache:
                layer.clear()  # the positions of all tokens have changed
        logits = next_logits(model, ids[kept:], cache)
        token = choose(logits, sampling, sequence, ids)
        if token == stop:
            return
        kept = len(ids)
        ids.append(token)
        yield token, logits


def next_logits(model: GPTModel, ids: list[int], cache: Sequence[LayerCache] | None = None) -> NDArray[np.float32]:
    """Scores (V,) of the token after `ids`, which themselves follow what the cache holds."""
    # The modes are entered here and not around the loops: between two yields the caller's own must hold.
    with torch.inference_mode(), OneDnnLinear():
        batch = torch.tensor([ids], device=model.output_head.weight.device)  # (1, T)
        hidden = model.hidden(batch) if cache is None else model.hidden(batch, cache)
        last = hidden[:, -1]  # (1, C): only the last position's scores are used
        return model.output_head(last)[0].float().cpu().numpy()


def _check(model: GPTModel, ids: Sequence[int], max_new_tokens: int) -> None:
    if model.training:
        raise InputError("the model is in training mode, where dropout disturbs it: call model.eval() first")
    check_prompt(model.config, ids, max_new_tokens)
