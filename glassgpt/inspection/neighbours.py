"""Which tokens lie beside each other in the embedding: those that the model has learned to read alike."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NEIGHBOURS = 8
SLICE = 8192
"""Rows of the embedding that are compared at a time."""


def neighbours(embedding: nn.Module, ids: Tensor, vocab_size: int) -> tuple[Tensor, Tensor]:
    """The nearest others of each of `ids` (T,) by the cosine of the angle, nearest first: (T, N) ids and cosines."""
    unique, places = ids.unique(return_inverse=True)
    own = F.normalize(embedding(unique).float(), dim=-1)  # (U, C)
    cosines, others = own.new_empty(len(unique), 0), ids.new_empty(len(unique), 0)
    for start in range(0, vocab_size, SLICE):
        rows = torch.arange(start, min(start + SLICE, vocab_size), device=ids.device)
        likeness = own @ F.normalize(embedding(rows).float(), dim=-1).T  # (U, rows)
        likeness = likeness.masked_fill(unique[:, None] == rows, -torch.inf)
        cosines = torch.cat([cosines, likeness], dim=1)
        others = torch.cat([others, rows.expand(len(unique), -1)], dim=1)
        cosines, nearest = cosines.topk(min(NEIGHBOURS, cosines.shape[1]), dim=1)
        others = others.gather(1, nearest)
    n = min(NEIGHBOURS, vocab_size - 1)  # without the token itself
    return others[places, :n], cosines[places, :n]
