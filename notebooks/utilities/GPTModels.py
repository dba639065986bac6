"""The names that the chapter imports: DummyGPTModel, GPTModel, and GPT-2's tokenizer without a network.

`tiktoken.get_encoding("gpt2")` downloads the vocabulary at its first use. Importing this module enters the one
that comes with the package into tiktoken's registry first, so that nothing is downloaded. tiktoken's other
encodings stay as they are, and so does a "gpt2" that was loaded before.
"""

from collections.abc import Mapping
from typing import Any

import tiktoken
import tiktoken.registry

from glassgpt import model
from glassgpt.config import GPTConfig
from glassgpt.skeleton import DummyGPTModel
from glassgpt.text.gpt2 import gpt2_encoding

__all__ = ["DummyGPTModel", "GPTModel"]

if "gpt2" not in tiktoken.registry.ENCODINGS:
    # One atomic step on tiktoken's own table: whichever thread comes second keeps what the first one entered.
    tiktoken.registry.ENCODINGS.setdefault("gpt2", tiktoken.Encoding(**gpt2_encoding()))


class GPTModel(model.GPTModel):
    """`glassgpt.GPTModel` with the chapter's dropout, which draws the same numbers on every platform.

    A dictionary without a "dropout" of its own gets "portable"; a GPTConfig already says which dropout it wants
    and is taken as it is.
    """

    def __init__(self, config: GPTConfig | Mapping[str, Any]) -> None:
        super().__init__(config if isinstance(config, GPTConfig) else {"dropout": "portable", **config})
