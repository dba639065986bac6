"""What to train on a text in a given time: from the text and the machine's speed to tokenizer, model and optimiser.

Every size of the ladder below is tried with every vocabulary that the text can teach and three rates of dropout: the
machine's speed says how many bytes it would see in the time, and the law of `scaling` what it would score. The best is
taken. What the user gives is kept, and the rest is chosen to suit it. Everything chosen is written to config.yaml.
"""

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from glassgpt import settings
from glassgpt.config import GPTConfig, OptimConfig
from glassgpt.planning.difficulty import COUNTED, Difficulty, difficulty
from glassgpt.planning.flops import flops_per_token, muon_flops
from glassgpt.planning.parameters import parameters
from glassgpt.planning.scaling import law
from glassgpt.text.characters import distinct
from glassgpt.text.corpus import Corpus
from glassgpt.text.kinds import auto_spec, parse_spec

RECIPE: dict[str, Any] = {
    "name": "muon",
    "learning_rate": 0.01,
    "muon_learning_rate": 0.015,
    "muon_iterations": 3,
    "schedule": "linear",
    "weight_decay": 0.1,
}
"""How every choice is trained; compared one by one at widths of 128 and 192 (docs/log.md)."""

LADDER = (
    (2, 64), (3, 128), (4, 128), (5, 128), (4, 192), (5, 192), (5, 256), (6, 256), (6, 320), (7, 384), (8, 512),
    (10, 640), (12, 768), (16, 1024),
)  # fmt: skip
"""(n_layers, embedding_dim). The law was fitted on widths up to 256; beyond, it is an extrapolation."""

DROPOUTS = (0.0, 0.1, 0.2)
SHARES = (0.85, 0.7, 0.5, 0.35, 0.25, 0.15, 0.1, 0.05, 0.02, 0.01)
"""Of the time: more passes over a short text may make a model worse."""
SHORTEST = 10_000
"""Bytes of a text of which the law says anything."""
FORETOLD = 300_000
"""Bytes of a text from which its score is foretold: about half of the shortest that the law was fitted on. Of 20 kB it
said 4.59 bits per byte where a run came to 2.58."""
FEW_STEPS = 300
"""Fewer were not tried, so less time is not taken for them."""
WORTH = 0.015
"""By what share less time must be foreseen to be better to be taken; on one text the law errs by twice as much."""
VOCABULARIES = (512, 1024, 2048, 4096, 8192, 16384)
LARGEST_SHARE = 7.0
"""Parameters for each byte of the training text, at most: as many as were tried."""
BYTES_PER_ENTRY = 1200
"""Of text that a token of the vocabulary should have: fewer would be learned by heart."""
TOKENS_PER_STEP = 1024
MANY_TOKENS = 2e7
"""From here on a step takes more tokens, as the root of how many there are,"""
MOST_PER_STEP = 2**19
"""up to this (GPT-3's smallest model, Brown et al. 2020, table 2.1), and a 64th of the text."""


def head_count(width: int) -> int:
    """Heads of 64 features, where that divides the width; else of the next larger size that does, or one head."""
    return next((n for n in range(max(1, width // 64), 0, -1) if width % (2 * n) == 0), 1)


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
    difficulty: Difficulty

    @property
    def most_bits_per_byte(self) -> float:
        """That a model needs which knows nothing but which bytes there are.

        In a text of ASCII they are its characters; of others it is not known how many bytes are different.
        """
        return min(8.0, math.log2(max(1, self.distinct))) if self.characters == self.bytes else 8.0


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
        flops += muon_flops(model, optim.muon_iterations) if optim.name == "muon" else 0
        return (model.n_layers + 1) * self.seconds_per_layer * optim.accumulation + flops / self.flops_per_s


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a model will score on the validation text, by the law, from how much it is trained."""

    difficulty: Difficulty
    """Of the text."""
    blocks: float
    """Millions of parameters."""
    unique: float
    """Megabytes of training text."""
    bytes_per_token: float
    dropout: float
    most: float = 8.0
    """What it costs to know nothing but which bytes there are, which a model learns at once."""

    def bits_per_byte(self, tokens: float) -> float:
        """After training on so many tokens; never more than `most`."""
        return min(self.most, self.by_law(tokens))

    def by_law(self, tokens: float) -> float:
        """What the law says, which is fitted on writing: of random text it may be more than there are bits."""
        seen = max(1e-3, tokens * self.bytes_per_token / 1e6)
        return law().bits_per_byte(
            self.difficulty, self.blocks, seen, self.unique, self.bytes_per_token, self.dropout
        )


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What to train. The dictionaries hold only what was not given."""

    tokenizer: str
    model: dict[str, Any]
    optim: dict[str, Any]
    seconds: float
    """Of training; less than there were where more passes over the text would make the model worse."""
    steps: int
    """About how many that are."""
    tokens_per_step: int
    forecast: Forecast | None
    """Of the score; None where the user's own settings, or a text of one line, leave no ground to say."""
    why: tuple[str, str]
    """Two lines for the user."""
    facts: TextFacts
    """What it follows from."""

    @property
    def bits_per_byte(self) -> float | None:
        """Foreseen of so many steps."""
        tokens = self.steps * self.tokens_per_step
        return self.forecast.bits_per_byte(tokens) if self.forecast else None


def text_facts(corpus: Corpus) -> TextFacts:
    """Count, measure repetition on the first megabyte, and the difficulty of what will be validation text."""
    start = next(corpus.all().blocks(), "").encode()
    return TextFacts(
        characters=corpus.n_characters,
        bytes=corpus.n_bytes,
        distinct=len(distinct(corpus.all().blocks())),
        repetition=1 - min(1.0, len(zlib.compress(start, 1)) / max(1, len(start))),
        difficulty=difficulty(corpus),
    )


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    tokenizer: str
    model: dict[str, Any]
    optim: dict[str, Any]
    steps: int
    tokens_per_step: int
    seconds: float
    forecast: Forecast
    parameters: int

    @property
    def bits_per_byte(self) -> float:
        """By the law: the candidates are told apart even where all are foreseen to learn nothing."""
        return self.forecast.by_law(self.steps * self.tokens_per_step)

    def cut(self, share: float) -> "_Candidate":
        """In a share of the time."""
        return replace(self, steps=max(1, int(share * self.steps)), seconds=share * self.seconds)


def choose(
    facts: TextFacts, speed: Speed, seconds: float, given: Mapping[str, Mapping[str, Any]] | None = None
) -> Choice:
    """What to train in `seconds` seconds of training. `given` holds, by section, what the user has settled.

    A text that is too short for one window is not refused here but by who cuts it.
    """
    given = given or {}
    model, optim, data = (dict(given.get(section, {})) for section in ("model", "optim", "data"))
    whole = [
        _candidate(facts, speed, max(0.1, seconds), tokenizer, size, dropout, model, optim)
        for tokenizer in _tokenizers(facts, str(data.get("tokenizer", "auto")))
        for size in LADDER
        if size in LADDER[:2] or 12 * size[0] * size[1] ** 2 <= LARGEST_SHARE * facts.bytes
        for dropout in DROPOUTS
    ]
    best = min(whole, key=lambda candidate: candidate.bits_per_byte)
    sizes_given = not {"n_layers", "embedding_dim"}.isdisjoint(model)
    lawful = facts.repetition < 0.9 and facts.bytes >= SHORTEST and model.get("architecture", "modern") == "modern"
    if lawful and not sizes_given:
        shorter = min(
            (candidate.cut(share) for candidate in whole for share in SHARES if share * candidate.steps >= FEW_STEPS),
            key=lambda candidate: candidate.bits_per_byte,
            default=best,
        )
        best = shorter if shorter.bits_per_byte < (1 - WORTH) * best.bits_per_byte else best
    free = "learning_rate" not in optim and facts.bytes >= FORETOLD and facts.repetition < 0.9
    modern = model.get("architecture", "modern") == "modern"
    gigaflops = speed.flops_per_s / 1e9
    return Choice(
        tokenizer=best.tokenizer,
        model={name: value for name, value in best.model.items() if name not in model},
        optim={name: value for name, value in best.optim.items() if name not in optim},
        seconds=best.seconds,
        steps=best.steps,
        tokens_per_step=best.tokens_per_step,
        forecast=best.forecast if free and modern else None,
        why=(
            f"{best.parameters / 1e6:.1f} M parameters learn most in {best.seconds:.0f} s at {gigaflops:,.0f} "
            "GFLOP/s: more would see too little, fewer hold too little",
            f"{facts.distinct:,} different characters: {_reason(best.tokenizer)}; an n-gram model of up to "
            f"{COUNTED} bytes, counted in a sample of this text, scores {facts.difficulty.ngram:.2f} bits per byte",
        ),
        facts=facts,
    )


def _candidate(
    facts: TextFacts, speed: Speed, seconds: float, tokenizer: str, size: tuple[int, int], dropout: float,
    given_model: dict[str, Any], given_optim: dict[str, Any],
) -> _Candidate:  # fmt: skip
    """One possibility, in all of the time."""
    layers, width = (int(given_model.get(name, own)) for name, own in zip(("n_layers", "embedding_dim"), size))
    context = _context(facts, seconds)
    chosen: dict[str, Any] = {
        "architecture": "modern", "n_layers": layers, "embedding_dim": width, "n_heads": head_count(width),
        "context_length": context, "tie_embeddings": True, "dropout_rate": dropout, "norm_eps": 1e-6,
    }  # fmt: skip
    if given_model.get("architecture", "modern") != "modern":
        del chosen["norm_eps"]
    config = GPTConfig.from_dict({"vocab_size": vocabulary_size(tokenizer, facts)} | chosen | given_model)
    per_token = _bytes_per_token(tokenizer, facts)
    batch, steps = 0, 0
    settled: dict[str, Any] = {}
    for _ in range(2):  # the batch follows from how many tokens there are, and they from the batch
        tokens_per_step = TOKENS_PER_STEP * max(1.0, steps * batch * config.context_length / MANY_TOKENS) ** 0.5
        tokens_per_step = min(tokens_per_step, max(TOKENS_PER_STEP, min(MOST_PER_STEP, facts.bytes / per_token / 64)))
        parts = int(given_optim.get("accumulation", 1))
        batch = max(1, round(tokens_per_step / config.context_length / parts)) * parts
        batch = int(given_optim.get("batch_size", batch))
        settled = RECIPE | {"batch_size": batch}
        step = speed.step_seconds(config, settings.build(OptimConfig, RECIPE | {"batch_size": batch}, "optim", {}))
        steps = max(1, int(seconds / step))
    settled["warmup"] = max(1, min(50, steps // 20))
    counted = parameters(config)
    forecast = Forecast(
        difficulty=facts.difficulty,
        blocks=max(1e-3, (counted["attention"] + counted["feed_forward"]) / 1e6),
        unique=max(1e-3, 0.9 * facts.bytes / 1e6),
        bytes_per_token=per_token,
        dropout=config.dropout_rate,
        most=facts.most_bits_per_byte,
    )
    return _Candidate(
        tokenizer=tokenizer, model=chosen, optim=settled, steps=steps, tokens_per_step=batch * config.context_length,
        seconds=seconds, forecast=forecast, parameters=sum(counted.values()),
    )  # fmt: skip


def _tokenizers(facts: TextFacts, wanted: str) -> list[str]:
    """Those that the text can teach: BPE with so many bytes for each token, characters where it is short."""
    if wanted != "auto":
        return [wanted]
    if auto_spec(facts.bytes) == "chars":
        return ["chars"]
    return [f"bpe:{size}" for size in VOCABULARIES if size == 512 or size * BYTES_PER_ENTRY <= facts.bytes]


def _bytes_per_token(tokenizer: str, facts: TextFacts) -> float:
    """As measured on English; between two vocabularies in proportion to the logarithm of their sizes."""
    measured = law().bytes_per_token
    size = 50257 if tokenizer == "gpt2" else parse_spec(tokenizer)[1]
    if size is None:
        return facts.bytes / max(1, facts.characters) if tokenizer == "chars" else 1.0
    known = sorted((int(name[4:]), value) for name, value in measured.items() if name.startswith("bpe:"))
    (low, at_low), (high, at_high) = known[0], known[-1]
    slope = (at_high - at_low) / math.log2(high / low)
    return max(1.0, at_low + slope * math.log2(size / low))


def _reason(tokenizer: str) -> str:
    if tokenizer == "chars":
        return "a token is a character, since merges would be learned by heart"
    return f"tokens are {tokenizer}"


def _context(facts: TextFacts, seconds: float) -> int:
    """256 tokens, 128 where there is little time; in a short text a power of two that leaves four windows."""
    wanted = 128 if seconds < 20 else 256
    most = max(2, facts.characters // 5)
    return wanted if wanted <= most else 1 << (most.bit_length() - 1)


def vocabulary_size(tokenizer: str, facts: TextFacts) -> int:
    """How many tokens a tokenizer will have, or about so many."""
    return parse_spec(tokenizer)[1] or {"gpt2": 50257, "bytes": 257}.get(tokenizer, facts.distinct + 257)
