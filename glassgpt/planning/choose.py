"""What to train on a text in a given time: from the text and the machine's speed to tokenizer, model and optimiser.

The rule: the arithmetic that the time allows (seconds x speed) picks a rung of the table below, and the text bounds it:
a text of few characters gets a context that fits it, and a vocabulary that it can teach. What the user gives is kept,
and the rest is chosen to suit it. Everything chosen is written to config.yaml.
"""

import math
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from glassgpt.config import GPTConfig, OptimConfig
from glassgpt.planning.flops import flops_per_token
from glassgpt.text.kinds import auto_spec, parse_spec


@dataclass(frozen=True, kw_only=True)
class Rung:
    """What suits so much arithmetic."""

    flops: float
    """Up to this much, in floating-point operations of training."""
    n_layers: int
    embedding_dim: int
    context_length: int
    batch_size: int
    learning_rate: float
    largest_vocabulary: int
    bits_per_byte: float
    """What English text ends at, about."""


HEAD_DIM = 32
RUNGS = (
    Rung(flops=2e12, n_layers=3, embedding_dim=128, context_length=64, batch_size=16, learning_rate=4e-3,
         largest_vocabulary=512, bits_per_byte=2.75),
    Rung(flops=6e12, n_layers=4, embedding_dim=128, context_length=96, batch_size=16, learning_rate=3e-3,
         largest_vocabulary=1024, bits_per_byte=2.50),
    Rung(flops=2e13, n_layers=4, embedding_dim=128, context_length=128, batch_size=16, learning_rate=3e-3,
         largest_vocabulary=1024, bits_per_byte=2.35),
    Rung(flops=1e14, n_layers=5, embedding_dim=192, context_length=192, batch_size=16, learning_rate=2e-3,
         largest_vocabulary=2048, bits_per_byte=2.15),
    Rung(flops=1e15, n_layers=6, embedding_dim=320, context_length=256, batch_size=16, learning_rate=1.5e-3,
         largest_vocabulary=4096, bits_per_byte=1.95),
    Rung(flops=1e16, n_layers=8, embedding_dim=512, context_length=512, batch_size=16, learning_rate=1e-3,
         largest_vocabulary=8192, bits_per_byte=1.70),
    Rung(flops=math.inf, n_layers=12, embedding_dim=768, context_length=1024, batch_size=16, learning_rate=6e-4,
         largest_vocabulary=16384, bits_per_byte=1.45),
)  # fmt: skip
"""First guesses, to be replaced by fits of measured runs. The scores are of short runs with AdamW."""


@dataclass(frozen=True, kw_only=True)
class TextFacts:
    """What the choice needs to know of a text."""

    characters: int
    bytes: int
    """In UTF-8."""
    distinct: int
    """How many different characters there are."""
    repetition: float
    """How much shorter zlib makes it: 0 not at all, near 1 one line over and over. English prose is at 0.6."""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """How fast this machine trains: a step takes about n_layers x seconds_per_layer + FLOPs / flops_per_s."""

    flops_per_s: float
    """Of the matrix products, counted as in `flops`."""
    seconds_per_layer: float
    """What a layer costs however small it is: dispatch, norms, the optimiser's calls."""

    def step_seconds(self, model: GPTConfig, optim: OptimConfig) -> float:
        """How long a step of `model` should take."""
        flops = sum(flops_per_token(model).values()) * model.context_length * optim.batch_size
        return (model.n_layers + 1) * self.seconds_per_layer * optim.accumulation + flops / self.flops_per_s


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What to train. The dictionaries hold only what was not given."""

    tokenizer: str
    model: dict[str, Any]
    optim: dict[str, Any]
    bits_per_byte: float | None
    """What the validation text should cost at the end; None where the user's own sizes leave no ground to say."""
    why: tuple[str, str]
    """Two lines for the user."""


def text_facts(texts: Iterable[str]) -> TextFacts:
    """Count. Repetition is measured on the first megabyte."""
    characters = n_bytes = 0
    found: set[str] = set()
    start = b""
    for text in texts:
        encoded = text.encode()
        characters += len(text)
        n_bytes += len(encoded)
        found.update(text)
        if len(start) < 2**20:
            start += encoded[: 2**20 - len(start)]
    repetition = 1 - min(1.0, len(zlib.compress(start, 1)) / max(1, len(start)))
    return TextFacts(characters=characters, bytes=n_bytes, distinct=len(found), repetition=repetition)


def choose(
    facts: TextFacts, speed: Speed, seconds: float, given: Mapping[str, Mapping[str, Any]] | None = None
) -> Choice:
    """What to train in `seconds` seconds of training. `given` holds, by section, what the user has settled.

    A text that is too short for one window is not refused here but by who cuts it.
    """
    given = given or {}
    model, optim, data = (dict(given.get(section, {})) for section in ("model", "optim", "data"))
    flops = max(0.0, seconds) * speed.flops_per_s
    rung = next(rung for rung in RUNGS if flops <= rung.flops)
    tokenizer = str(data.get("tokenizer", "auto"))
    if tokenizer == "auto":
        tokenizer = _tokenizer(facts, rung)

    sizes = {"n_layers", "embedding_dim"}
    whole = "context_length" in model and sizes <= set(model)  # a preset, or another run's config
    chosen: dict[str, Any] = {}
    if not whole:
        width = int(model.get("embedding_dim", rung.embedding_dim))
        chosen = {
            "architecture": "modern",
            "n_layers": rung.n_layers,
            "embedding_dim": rung.embedding_dim,
            "n_heads": next(n for n in range(max(1, width // HEAD_DIM), 0, -1) if width % n == 0),
            "context_length": _context(facts, rung),
            "tie_embeddings": True,
        }
        chosen |= {"norm_eps": 1e-6} if model.get("architecture", "modern") == "modern" else {}
    width = int(model.get("embedding_dim", rung.embedding_dim))
    context = int(model.get("context_length") or chosen.get("context_length", rung.context_length))
    rate = rung.learning_rate * rung.embedding_dim / width
    parts = int(optim.get("accumulation", 1))
    batch = -(-max(1, rung.batch_size * rung.context_length // context) // parts) * parts
    settled = {"learning_rate": float(f"{rate:.2g}"), "batch_size": batch, "schedule": "linear"}
    given_batch = int(optim.get("batch_size", batch))
    step = _step_seconds(speed, {**chosen, **model}, given_batch, facts, tokenizer)
    steps = max(1, int(seconds / step))
    settled["warmup"] = max(1, min(100, steps // 20))

    free = sizes.isdisjoint(model) and "learning_rate" not in optim and facts.characters > 100 * context
    bpb = rung.bits_per_byte * facts.characters / facts.bytes if free and facts.repetition < 0.9 else None
    return Choice(
        tokenizer=tokenizer,
        model={name: value for name, value in chosen.items() if name not in model},
        optim={name: value for name, value in settled.items() if name not in optim},
        bits_per_byte=bpb,
        why=(
            f"{max(0.0, seconds):.0f} s at {speed.flops_per_s / 1e9:.0f} GFLOP/s are {flops:.1e} FLOPs, enough for "
            f"about {rung.n_layers} layers of {rung.embedding_dim} and {steps:,} steps",
            f"{facts.characters:,} characters, {facts.distinct:,} different: {_reason(tokenizer)}; "
            f"context {context}, so that a step is short and there are many",
        ),
    )


def _tokenizer(facts: TextFacts, rung: Rung) -> str:
    """The text's own, as far as a model of this size can use the vocabulary."""
    spec = auto_spec(facts.bytes)
    size = parse_spec(spec)[1]
    return spec if size is None else f"bpe:{min(size, rung.largest_vocabulary)}"


def _reason(tokenizer: str) -> str:
    if tokenizer == "chars":
        return "a token is a character, since merges would be learned by heart"
    return f"tokens are {tokenizer}, a vocabulary that this much text and time can teach"


def _context(facts: TextFacts, rung: Rung) -> int:
    """The rung's, or in a short text a power of two that leaves at least four windows to train on."""
    most = max(2, facts.characters // 5)
    return rung.context_length if rung.context_length <= most else 1 << (most.bit_length() - 1)


def _step_seconds(speed: Speed, model: dict[str, Any], batch_size: int, facts: TextFacts, tokenizer: str) -> float:
    vocab_size = parse_spec(tokenizer)[1] or {"gpt2": 50257, "bytes": 257}.get(tokenizer, facts.distinct + 257)
    config = GPTConfig.from_dict({"vocab_size": vocab_size} | model)
    return speed.step_seconds(config, OptimConfig(batch_size=batch_size))
