"""What export() gives back, and how it looks whether what was written is the model that it was made from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from glassgpt.generation.generate import generate
from glassgpt.generation.sampling import Sampling
from glassgpt.model import GPTModel
from glassgpt.native.packing import Format as AnyFormat
from glassgpt.quantization.formats import Format

SAMPLE = "The quick brown fox (née Füchsin) said:\n\t“¿Qué? 3.14 ≈ π!” 狐狸 🦊\n"
"""What the tokenizer that was written must encode as the first one does, and give back."""


class ExportFailed(RuntimeError):
    """What was written does not give back what it was made from."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A model that was written, opened again, and compared with the one that it was made from."""

    source: Path
    directory: Path
    """What was written; of html a file."""
    dtype: AnyFormat | Literal["fp16"]
    """Of the weights that were written."""
    rounded_to: Format | None
    """What the weights are rounded to, be it because they were so before."""
    replaced: AnyFormat | Literal["fp16", "html", "damaged"] | None
    """The weights of the earlier export that was in `directory`, or html; None where there was none."""
    parameters: int
    bytes_before: int
    """Of all tensors."""
    bytes_after: int
    """Of html, the file with all that is in it."""
    largest_logit_difference: float
    """Between the scores of both for tokens that the first one wrote, of which the largest is `largest_logit`."""
    largest_logit: float
    same_choices: float
    """The share of positions at which both find the same token likeliest."""
    round_trip: int
    """Ids of the sample text that the tokenizer gave back; all of them, or there would be an error."""
    texts: tuple[str, ...] = ()
    """Names of the texts that the model was trained on, where an html says them."""


def written(model: GPTModel, first: int) -> tuple[Tensor, Tensor]:
    """Some tokens (1, T) that the model writes after `first`, and its scores (1, T, V) after each."""
    length = min(64, model.config.context_length)
    new = generate(model, [first], max_new_tokens=length - 1, sampling=Sampling(temperature=1.0, seed=0))
    ids = torch.tensor([[first, *new]])
    return ids, scores(model, ids)


@torch.inference_mode()
def scores(model: GPTModel, ids: Tensor) -> Tensor:
    return model(ids)
