"""Runs that are made to fail in known ways, and some that are not: each a real one of a few seconds."""

import functools
import random
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from glassgpt.config import OptimConfig
from glassgpt.model import GPTModel
from glassgpt.text.pydoc import read_pydoc
from glassgpt.text.stories import write_stories

Text = Callable[[], str]

SIZES = {"embedding_dim": 64, "n_layers": 2, "n_heads": 2, "context_length": 64}
MODERN, GPT2 = {"architecture": "modern", **SIZES}, {"architecture": "gpt2", **SIZES}
ADAMW = {"name": "adamw", "learning_rate": 5e-3, "warmup": 10, "schedule": "linear", "batch_size": 16}
MUON = {**ADAMW, "name": "muon"}
CYRILLIC = str.maketrans(dict(zip(string.ascii_lowercase, "абцдефгхийклмнопярстувшъыз", strict=True)))


@functools.cache
def prose() -> str:
    """English of manuals, 300 kB."""
    texts = [text for _, text in read_pydoc()]
    return "\n".join(texts)[:300_000]


def code() -> str:
    """Python, 300 kB."""
    library = Path(random.__file__).parent
    names = ("argparse", "inspect", "tarfile", "typing", "doctest", "ipaddress", "optparse", "zipfile")
    files = [library / f"{name}.py" for name in names]
    return "".join(file.read_text(encoding="utf-8") for file in files if file.exists())[:300_000]


def stories() -> str:
    return "\n".join(write_stories(1500, seed=3))


def cyrillic() -> str:
    """The same prose in other letters."""
    return prose().lower().translate(CYRILLIC)


def chinese() -> str:
    """The same prose with a sign a word."""
    signs: dict[str, str] = {}
    return "".join(signs.setdefault(word, chr(0x4E00 + len(signs))) for word in prose().split())


def noise() -> str:
    generator = random.Random(1)
    return "".join(generator.choices(string.ascii_letters, k=200_000))


def paragraph() -> str:
    return (prose()[1000:1800] + "\n\n") * 300


DEAD = """
import torch
from glassgpt.model import GPTModel, initialise

def make_model(config):
    model = GPTModel(config)
    initialise(model, torch.Generator().manual_seed(1))
    with torch.no_grad():
        model.blocks[1].feed_forward.up.bias[: config.feed_forward_dim // 2] = -20.0
    return model
"""
"""Half of the units of the second feed-forward can never be positive."""


def without_second_block(model: GPTModel, optim: OptimConfig) -> torch.optim.Optimizer:
    """AdamW that was not given the weights of a block."""
    kept = [parameter for name, parameter in model.named_parameters() if not name.startswith("blocks.1.")]
    return torch.optim.AdamW(kept, lr=optim.learning_rate)


class TooFastLater(torch.optim.AdamW):
    """From step 61 on at 100 times the learning rate."""

    n_steps = 0

    def step(self, closure: Any = None) -> Any:  # pyrefly: ignore[bad-override]
        self.n_steps += 1
        for group in self.param_groups:
            group["lr"] *= 100 if self.n_steps > 60 else 1
        return super().step(closure)


def too_fast_later(model: GPTModel, optim: OptimConfig) -> torch.optim.Optimizer:
    return TooFastLater(model.parameters(), lr=optim.learning_rate)


def made(text: Text, model: dict[str, Any], optim: dict[str, Any], steps: int, **more: Any) -> dict[str, Any]:
    """What such a run is begun with."""
    every = {"eval_every": steps // 4, "log_every": 2, "threads": 1}
    return {"text": text, "model": model, "optim": optim, "steps": steps, "tokenizer": "bpe:512", "run": every, **more}


def first(text: Text, n: int) -> Text:
    return lambda: text()[:n]


FAULTS: dict[str, dict[str, Any]] = {
    "diverged": made(prose, GPT2, ADAMW | {"learning_rate": 3e-3}, 120, optimizer=too_fast_later),
    "learning_rate_too_high": made(prose, MODERN, ADAMW | {"learning_rate": 0.15, "warmup": 0}, 150),
    "learning_rate_too_low": made(prose, GPT2, ADAMW | {"learning_rate": 1e-5}, 120),
    "overfitting": made(first(prose, 6000), MODERN, ADAMW, 200, tokenizer="chars"),
    "too_little_data": made(first(code, 30_000), MODERN | {"embedding_dim": 128}, ADAMW, 80),
    "repetitive": made(paragraph, MODERN, ADAMW, 100),
    "unsuited_tokenizer": made(chinese, MODERN, ADAMW, 150, tokenizer="bytes"),
    "dead_units": made(code, GPT2, ADAMW | {"learning_rate": 3e-3}, 120, code=DEAD),
    "idle_layer": made(prose, MODERN, ADAMW, 120, optimizer=without_second_block),
    "noise": made(noise, MODERN, ADAMW, 120, tokenizer="chars"),
}  # fmt: skip

HEALTHY: dict[str, dict[str, Any]] = {
    "stories, modern, Muon": made(stories, MODERN, MUON, 200),
    "prose, gpt2, AdamW": made(prose, GPT2, ADAMW | {"learning_rate": 3e-3}, 800),
    "code, modern, AdamW": made(code, MODERN | {"n_layers": 3, "n_kv_heads": 1}, ADAMW, 300),
    "Cyrillic, modern, Muon": made(cyrillic, MODERN | {"tie_embeddings": True}, MUON | {"average_share": 0.2}, 300),
    "prose, gpt2, letters, dropout": made(
        prose, GPT2 | {"dropout_rate": 0.1, "qkv_bias": True}, ADAMW | {"learning_rate": 3e-3}, 900, tokenizer="chars"
    ),
}
