"""A prompt and what a model does with it, with the texts of the tokens: what `GPT.inspect` gives."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from glassgpt.checkpoint.run import model_name
from glassgpt.inspection.ablation import Progress
from glassgpt.inspection.xray import Ablate, XRay, xray
from glassgpt.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from glassgpt.api.gpt import GPT


@dataclass(frozen=True)
class Inspected:
    """What was seen, and how to write it."""

    xray: XRay
    """The numbers, as arrays whose shapes it documents."""
    tokens: list[str]
    """The text of each token of the prompt; bytes that are only a part of a character as \\xe2."""
    text_of: Callable[[int], str]
    """The same of any id."""
    tokenizer: Tokenizer
    directory: Path
    """Where the model lies."""
    about: dict[str, str | int]
    """What it is, by name."""

    def page(self) -> str:
        """All of it as one HTML file that needs no network, to be looked at in a browser."""
        from glassgpt.inspection.xray_page import xray_page

        return xray_page(self.xray, self.text_of, {"model": model_name(self.directory), **self.about})


def inspected(
    gpt: "GPT", prompt: str, n_alternatives: int, ablate: Ablate, progress: Progress | None
) -> Inspected:
    """See `GPT.inspect`."""
    ids, config = gpt.prompt_ids(prompt), gpt.config
    found = xray(gpt.model, ids, n_alternatives=n_alternatives, ablate=ablate, progress=progress)
    about: dict[str, str | int] = {
        "architecture": config.architecture,
        "layers": config.n_layers,
        "heads": config.n_heads,
        "width": config.embedding_dim,
        "vocabulary": config.vocab_size,
        "weights": gpt.dtype,
    }
    tokens = [gpt.token_text(token) for token in ids]
    return Inspected(found, tokens, gpt.token_text, gpt.tokenizer, gpt.directory, about)
