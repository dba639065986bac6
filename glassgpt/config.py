"""Every setting of GlassGPT: the model, the data, the optimiser and the run.

A frozen dataclass a section, validated when it is made; the names are the seed chapter's. A wrong value raises
InputError, whose one line says what was given, what the rule is and what to do.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from glassgpt import settings
from glassgpt.settings import InputError, nearest, shown

Device = Literal["auto", "cpu", "cuda", "mps"]
Kernel = Literal["auto", "torch", "native"]
Dtype = Literal["auto", "fp32", "bf16", "int8", "int4"]
"""What weights are rounded to for use."""


@dataclass(frozen=True, kw_only=True)
class GPTConfig:
    """The shape of a model. `gpt2` is the chapter's architecture, `modern` is Qwen3's (Llama's without QK-norm).

    A size of 0 means "the usual one" and is replaced when the config is made.
    """

    architecture: Literal["gpt2", "modern"] = "gpt2"
    vocab_size: int = 50257
    context_length: int = 1024
    embedding_dim: int = 768
    n_heads: int = 12
    n_layers: int = 12
    dropout_rate: float = 0.0
    qkv_bias: bool = False
    """Whether query, key and value have a bias (gpt2 only; OpenAI's weights do, the chapter's do not)."""
    tie_embeddings: bool = False
    """Whether the output head shares the weight of the token embedding."""
    n_kv_heads: int = 0
    """Key and value heads; fewer than n_heads is grouped-query attention. 0: as many as n_heads."""
    head_dim: int = 0
    """Width of one head. 0: embedding_dim / n_heads."""
    feed_forward_dim: int = 0
    """Inner width of the feed-forward. 0: 4 x embedding_dim (gpt2), 8/3 of it in multiples of 64 (modern)."""
    qk_norm: bool | None = None
    """RMSNorm on queries and keys (Qwen3). None: yes for modern, no for gpt2."""
    norm_eps: float = 1e-5
    rope_theta: float = 10_000.0
    """Base of the rotary frequencies (modern only)."""
    dropout: Literal["torch", "portable"] = "torch"
    """Which stream dropout draws from: PyTorch's own, or the chapter's, equal on every platform."""

    def __post_init__(self) -> None:
        for name in ("vocab_size", "context_length", "embedding_dim", "n_heads", "n_layers"):
            _require(getattr(self, name) >= 1, f"model.{name}", getattr(self, name), "must be at least 1")
        for name in ("n_kv_heads", "head_dim", "feed_forward_dim"):
            _require(getattr(self, name) >= 0, f"model.{name}", getattr(self, name), "must be at least 0 (the usual)")
        _require(self.n_heads <= 2**16, "model.n_heads", self.n_heads, "must be at most 65,536")
        _require(self.n_layers <= 10_000, "model.n_layers", self.n_layers, "must be at most 10,000")
        _require(0 <= self.dropout_rate < 1, "model.dropout_rate", self.dropout_rate, "must be in [0, 1)")
        _require(self.norm_eps > 0, "model.norm_eps", self.norm_eps, "must be above 0")
        _require(self.rope_theta > 0, "model.rope_theta", self.rope_theta, "must be above 0")
        if self.head_dim == 0 and self.embedding_dim % self.n_heads:
            raise InputError(
                f"model.embedding_dim is {self.embedding_dim} and model.n_heads is {self.n_heads}: every head gets an "
                f"equal share, so take a multiple of {self.n_heads}, such as "
                f"{-(-self.embedding_dim // self.n_heads) * self.n_heads}"
            )
        modern = self.architecture == "modern"
        inner = -(-8 * self.embedding_dim // (3 * 64)) * 64 if modern else 4 * self.embedding_dim
        self._settle("n_kv_heads", self.n_kv_heads or self.n_heads)
        self._settle("head_dim", self.head_dim or self.embedding_dim // self.n_heads)
        self._settle("feed_forward_dim", self.feed_forward_dim or inner)
        for name in ("vocab_size", "context_length", "embedding_dim", "n_kv_heads", "head_dim", "feed_forward_dim"):
            _require(getattr(self, name) < 2**31, f"model.{name}", getattr(self, name), "must be below 2^31")
        self._settle("qk_norm", modern if self.qk_norm is None else self.qk_norm)
        if self.n_heads % self.n_kv_heads:
            raise InputError(
                f"model.n_kv_heads is {self.n_kv_heads}, but must divide model.n_heads, which is {self.n_heads}"
            )
        if modern:
            _require(not self.qkv_bias, "model.qkv_bias", True, "must be false: the modern architecture has no biases")
            _require(self.head_dim % 2 == 0, "model.head_dim", self.head_dim, "must be even: rotary turns pairs")
        else:
            equal = self.head_dim * self.n_heads == self.embedding_dim
            _require(equal, "model.head_dim", self.head_dim, "must be embedding_dim / n_heads in the gpt2 architecture")
            same = self.n_kv_heads == self.n_heads
            _require(same, "model.n_kv_heads", self.n_kv_heads, "must equal n_heads in gpt2; take architecture modern")
            _require(not self.qk_norm, "model.qk_norm", True, "must be false in gpt2; take architecture modern")

    def _settle(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)  # a frozen dataclass may still settle its own values while it is made

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "GPTConfig":
        """The config in a dictionary: the seed's own (with its `h_heads`), the book's (`emb_dim`), or ours.

        Raises InputError for a key that is unknown (the nearest is named; another tool's name is answered with
        ours) and for two names of one setting.
        """
        renamed: dict[str, Any] = {}
        for key, value in values.items():
            name = key.replace("-", "_") if isinstance(key, str) else shown(key)
            name = DIALECTS.get(name, name)
            if name in renamed:
                raise InputError(f"model.{shown(name)[1:-1]} is given twice, once as {shown(key)}: keep one of the two")
            renamed[name] = value
        return settings.build(cls, renamed, "model", OTHER_TOOLS)

    def to_dict(self) -> dict[str, Any]:
        """Every field as a plain value; `from_dict` takes it back."""
        return settings.to_dict(self)


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """How text becomes tokens."""

    tokenizer: str = "auto"
    """auto, gpt2, bpe:N (trained on this text), chars or bytes."""
    val_fraction: float = 0.1
    """Share of the characters, from the end, kept apart to measure bits per byte."""
    encoding: str = "auto"
    """Of text that does not say itself how it is encoded, such as cp1252. auto: UTF-8, or what it clearly is."""
    invalid_utf8: Literal["refuse", "replace"] = "refuse"
    """What to do where text that is to be UTF-8 is not. replace: by U+FFFD, and counted."""
    text_field: str = "text"
    """The field of a line of .jsonl that holds its text."""
    keep_duplicates: bool = False
    """Whether a document that equals an earlier one is kept."""
    cache: str | None = None
    """Folder of prepared texts. None: ~/.cache/glassgpt."""
    max_bytes: int | None = None
    """Read no more than this from the start of the text. None: all; in a run of minutes, what its time allows."""
    max_ram: str = "1GB"
    """Memory for reading, learning the vocabulary and tokenising, however large the text is."""

    def __post_init__(self) -> None:
        _require(self.max_bytes is None or self.max_bytes >= 1, "data.max_bytes", self.max_bytes, "must be at least 1")
        _require(0 < self.val_fraction < 1, "data.val_fraction", self.val_fraction, "must be between 0 and 1")
        enough = parse_bytes(self.max_ram, "data.max_ram") >= LEAST_RAM
        _require(enough, "data.max_ram", self.max_ram, "must be at least 64MB")


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """How the weights are updated. One step sees `batch_size` sequences of `context_length` tokens."""

    name: Literal["adamw", "muon"] = "adamw"
    """muon: Muon for the matrices inside the blocks, AdamW for everything else."""
    learning_rate: float = 1e-3
    """AdamW's."""
    min_learning_rate: float = 0.0
    """What the learning rate has decayed to at the last step."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: int = 100
    """Steps over which the learning rate rises from 0."""
    weight_decay: float = 0.1
    """Applied to matrices only, never to norms and biases."""
    beta1: float = 0.9
    beta2: float = 0.99
    eps: float = 1e-8
    grad_clip: float = 1.0
    """Largest norm of all gradients together; 0 leaves them as they are."""
    average_share: float = 0.0
    """Evaluate and save an average of the weights over this share of the steps so far. 0: the weights themselves."""
    muon_learning_rate: float = 0.02
    """Muon's. It rises and falls in proportion to learning_rate."""
    muon_momentum: float = 0.95
    muon_iterations: int = 5
    """Steps of Newton–Schulz towards an orthogonal update."""
    muon_coefficients: Literal["jordan", "polar-express"] = "jordan"
    """Polynomials of these steps: Jordan et al. 2024, or Amsel et al. 2025."""
    muon_dtype: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of these steps; the momentum stays fp32. auto: what this device multiplies faster."""
    muon_normalise_rows: bool = False
    """Also make the rows of an update alike in size (NorMuon, Li et al. 2025)."""
    muon_cautious_decay: bool = False
    """Decay a weight only while its update draws it towards 0 too (Chen et al. 2025)."""
    batch_size: int = 16
    accumulation: int = 1
    """Parts that a batch is computed in, one after the other, to save memory; must divide batch_size."""

    def __post_init__(self) -> None:
        _require(self.learning_rate > 0, "optim.learning_rate", self.learning_rate, "must be above 0")
        low, high = self.min_learning_rate, self.learning_rate
        _require(0 <= low <= high, "optim.min_learning_rate", low, f"must be between 0 and learning_rate ({high})")
        _require(self.warmup >= 0, "optim.warmup", self.warmup, "must be at least 0")
        _require(self.weight_decay >= 0, "optim.weight_decay", self.weight_decay, "must be at least 0")
        _require(0 <= self.average_share <= 1, "optim.average_share", self.average_share, "must be in [0, 1]")
        _require(self.muon_learning_rate > 0, "optim.muon_learning_rate", self.muon_learning_rate, "must be above 0")
        _require(self.muon_iterations >= 1, "optim.muon_iterations", self.muon_iterations, "must be at least 1")
        for name in ("beta1", "beta2", "muon_momentum"):
            _require(0 <= getattr(self, name) < 1, f"optim.{name}", getattr(self, name), "must be in [0, 1)")
        _require(self.eps > 0, "optim.eps", self.eps, "must be above 0")
        _require(self.grad_clip >= 0, "optim.grad_clip", self.grad_clip, "must be at least 0")
        rule = "must be at least 1 and at most 1,048,576 sequences"
        _require(1 <= self.batch_size <= 2**20, "optim.batch_size", self.batch_size, rule)
        divides = self.accumulation >= 1 and self.batch_size % self.accumulation == 0
        _require(divides, "optim.accumulation", self.accumulation, f"must divide batch_size ({self.batch_size})")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """How long, where and how often."""

    minutes: float | None = None
    """Time for everything, from the start of the process to its end. Give one of this, `steps` and `tokens`."""
    steps: int | None = None
    """Steps of the optimiser."""
    tokens: int | None = None
    """Tokens to train on, rounded up to whole steps."""
    seed: int = 1337
    device: Device = "auto"
    dtype: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the forward pass; the weights stay fp32. auto: bf16 on CUDA and on a CPU that is
    clearly faster in it, else fp32."""
    kernel: Kernel = "auto"
    """Who computes loss and gradients: PyTorch, or the native step in C++. auto: native on the CPU for models of up
    to 30 million parameters, where it was built."""
    linear: Literal["auto", "torch", "onednn"] = "auto"
    """Whose matrix products the linear layers use on the CPU in fp32. auto: oneDNN's where this build has them."""
    threads: int = 0
    """CPU threads; another number gives other bits. 0: one a core."""
    max_memory: str | None = None
    """What training may take on the CPU, such as 2.5GB, 800MiB or a number of bytes: `recompute` and
    `optim.accumulation` follow from it."""
    recompute: bool | None = None
    """Compute the activations of a block again in the backward pass, instead of keeping them all: less memory, the
    same bits, more time. None: where `max_memory` asks for it."""
    deterministic: bool = False
    """Ask PyTorch for deterministic kernels on a GPU (the CPU's are deterministic as they are)."""
    eval_every: int = 0
    """Steps between evaluations. 0: ten in a run of steps, `evaluations` in a run of minutes."""
    evaluations: int | None = None
    """Evaluations on the way, after equal shares of a run of minutes. None: as many as 3 % of its time allow."""
    eval_tokens: int = 0
    """How much of the validation text the evaluations on the way use. 0: what 3 % of the time allow."""
    save_every: int = 0
    """Steps between checkpoints. 0: before each evaluation, and in a run of minutes every five minutes."""
    log_every: int = 10
    """Steps between lines of metrics.jsonl."""
    code: str | None = None
    """A Python file with a model or an optimiser of your own (see `glassgpt.api.code`)."""

    def __post_init__(self) -> None:
        for name in ("steps", "tokens"):
            value = getattr(self, name)
            _require(value is None or value >= 1, f"run.{name}", value, "must be at least 1")
        minutes = self.minutes
        rule = f"must be above 0 and at most {LONGEST:,} (a year), such as 10 or 0.5"
        _require(minutes is None or 0 < minutes <= LONGEST, "run.minutes", minutes, rule)
        lengths = [name for name in ("minutes", "steps", "tokens") if getattr(self, name) is not None]
        if len(lengths) > 1:
            given = " and ".join(f"run.{name} is {getattr(self, name)}" for name in lengths)
            raise InputError(f"{given}: give one of {'the two' if len(lengths) == 2 else 'them'}")
        if self.max_memory is not None:
            parse_bytes(self.max_memory, "run.max_memory")
        _require((self.evaluations or 0) >= 0, "run.evaluations", self.evaluations, "must be at least 0")
        _require(0 <= self.seed < 2**63, "run.seed", self.seed, "must be in [0, 2^63)")
        _require(self.log_every >= 1, "run.log_every", self.log_every, "must be at least 1")
        for name in ("threads", "eval_every", "eval_tokens", "save_every"):
            _require(getattr(self, name) >= 0, f"run.{name}", getattr(self, name), "must be at least 0")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything a run is made from: the content of config.yaml."""

    text: list[str]
    """Where the text came from: absolute paths, or `pydoc`."""
    prepared: str
    """Hash of the prepared text, so that a resumed run knows its own."""
    run_id: str = ""
    """Of this run alone, drawn when it begins. Its checkpoints hold it too, so that no other run's is taken for one."""
    model: GPTConfig
    data: DataConfig
    optim: OptimConfig
    run: RunConfig
    plan: tuple[tuple[int, int], ...] = ()
    """The entries (from_step, total_steps) that a run of minutes was made of, to be repeated."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Settings":
        """The settings in a config.yaml. Raises InputError for an unknown section, key or value."""
        known = ("text", "prepared", "run_id", "plan", *SECTIONS)
        unknown = [key if isinstance(key, str) else shown(key) for key in values if key not in known]
        if unknown:
            homes = [name for name, kind in SECTIONS.items() if unknown[0] in kind.__dataclass_fields__]
            near = f"{homes[0]}.{unknown[0]}" if homes else nearest(unknown[0], SECTIONS)
            hint = f"did you mean {near}?" if near else f"sections are {', '.join(SECTIONS)}"
            raise InputError(f"unknown section {shown(unknown[0])} in the settings: {hint}")
        sections = {name: values.get(name) or {} for name in SECTIONS}
        for name, section in sections.items():
            if not isinstance(section, Mapping):
                given = shown(section)
                raise InputError(f"section {name!r} of the settings is {given}, but must hold keys with values")
        text: Any = values.get("text") or []
        text = [text] if isinstance(text, str) else text
        if not isinstance(text, list) or not all(isinstance(source, str) for source in text):
            raise InputError(f"text is {shown(text)} in the settings, but must be a path or a list of paths")
        unwritable = next((source for source in text if not settings.is_unicode(source)), None)
        if unwritable is not None:
            raise InputError(f"the name {shown(unwritable)} is no UTF-8, so the run could not record it: rename it")
        names = {name: values.get(name) or "" for name in ("prepared", "run_id")}
        for name, value in names.items():
            if not isinstance(value, str):
                raise InputError(f"{name} is {shown(value)} in the settings, but must be text: leave it out")
        return cls(
            text=text,
            prepared=names["prepared"],
            run_id=names["run_id"],
            model=GPTConfig.from_dict(sections["model"]),
            data=settings.build(DataConfig, sections["data"], "data", OTHER_TOOLS),
            optim=settings.build(OptimConfig, sections["optim"], "optim", OTHER_TOOLS),
            run=settings.build(RunConfig, sections["run"], "run", OTHER_TOOLS),
            plan=_plan(values.get("plan") or []),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, section by section; `from_dict` takes them back."""
        sections = {name: settings.to_dict(getattr(self, name)) for name in SECTIONS}
        recorded = {"plan": [list(entry) for entry in self.plan]} if self.plan else {}
        return {"text": self.text, "prepared": self.prepared, "run_id": self.run_id} | sections | recorded


SECTIONS: dict[str, type] = {"model": GPTConfig, "data": DataConfig, "optim": OptimConfig, "run": RunConfig}
"""Section of config.yaml and of `--section.field` -> its dataclass."""

LEAST_RAM = 64_000_000
"""What preparing any text takes."""

LONGEST = 525_600
"""Minutes of a run, at most."""

DIALECTS = {"h_heads": "n_heads", "emb_dim": "embedding_dim", "drop_rate": "dropout_rate"}
"""Names in the seed's dictionary and in the book's -> ours; `from_dict` takes them."""

OTHER_TOOLS = {
    "n_embd": "embedding_dim", "hidden_size": "embedding_dim", "d_model": "embedding_dim", "dim": "embedding_dim",
    "n_layer": "n_layers", "num_hidden_layers": "n_layers", "num_layers": "n_layers",
    "n_head": "n_heads", "num_attention_heads": "n_heads", "num_heads": "n_heads",
    "num_key_value_heads": "n_kv_heads", "n_query_groups": "n_kv_heads", "n_kv_head": "n_kv_heads",
    "block_size": "context_length", "n_positions": "context_length", "n_ctx": "context_length",
    "max_position_embeddings": "context_length", "max_seq_len": "context_length", "seq_len": "context_length",
    "intermediate_size": "feed_forward_dim", "n_inner": "feed_forward_dim", "ffn_dim": "feed_forward_dim",
    "attn_pdrop": "dropout_rate", "resid_pdrop": "dropout_rate", "embd_pdrop": "dropout_rate",
    "bias": "qkv_bias", "attention_bias": "qkv_bias", "tie_word_embeddings": "tie_embeddings",
    "layer_norm_epsilon": "norm_eps", "rms_norm_eps": "norm_eps", "padded_vocab_size": "vocab_size",
    "lr": "learning_rate", "min_lr": "min_learning_rate", "lr_scheduler_type": "schedule",
    "warmup_iters": "warmup", "warmup_steps": "warmup", "lr_warmup_steps": "warmup",
    "per_device_train_batch_size": "batch_size", "micro_batch_size": "batch_size", "global_batch_size": "batch_size",
    "gradient_accumulation_steps": "accumulation", "max_grad_norm": "grad_clip", "max_norm": "grad_clip",
    "adam_beta1": "beta1", "adam_beta2": "beta2", "adam_epsilon": "eps", "optimizer": "name",
    "max_iters": "steps", "max_steps": "steps", "max_tokens": "tokens", "eval_interval": "eval_every",
    "eval_steps": "eval_every", "save_steps": "save_every", "save_interval": "save_every",
    "log_interval": "log_every", "logging_steps": "log_every", "precision": "dtype", "num_threads": "threads",
}  # fmt: skip
"""What other tools call a setting -> what it is called here; used only to answer a wrong key with the right one."""

_GPT2 = {"architecture": "gpt2", "qkv_bias": True, "tie_embeddings": True, "dropout_rate": 0.1}
_MODERN = {"architecture": "modern", "tie_embeddings": True, "norm_eps": 1e-6}
PRESETS: dict[str, dict[str, Any]] = {
    "gpt2-small": _GPT2 | {"n_layers": 12, "embedding_dim": 768, "n_heads": 12},
    "gpt2-medium": _GPT2 | {"n_layers": 24, "embedding_dim": 1024, "n_heads": 16},
    "gpt2-large": _GPT2 | {"n_layers": 36, "embedding_dim": 1280, "n_heads": 20},
    "gpt2-xl": _GPT2 | {"n_layers": 48, "embedding_dim": 1600, "n_heads": 25},
    "modern-tiny": _MODERN | {"n_layers": 4, "embedding_dim": 128, "n_heads": 4, "context_length": 128},
    "modern-mini": _MODERN | {"n_layers": 6, "embedding_dim": 256, "n_heads": 4, "context_length": 256},
    "modern-small": _MODERN
    | {"n_layers": 8, "embedding_dim": 512, "n_heads": 8, "n_kv_heads": 4, "context_length": 512},
    "modern-medium": _MODERN | {"n_layers": 12, "embedding_dim": 768, "n_heads": 12, "n_kv_heads": 4},
    "modern-large": _MODERN | {"n_layers": 24, "embedding_dim": 1024, "n_heads": 16, "n_kv_heads": 8},
}
"""Name -> what GPTConfig.from_dict is given. The gpt2 sizes are OpenAI's: tied head, qkv bias."""


def preset(name: str) -> dict[str, Any]:
    """The values of a preset, to be merged with others. `gpt2-124m` and `gpt2` are `gpt2-small`.

    Raises InputError for a name that is none.
    """
    known = PRESETS | {"gpt2-124m": PRESETS["gpt2-small"], "gpt2": PRESETS["gpt2-small"]}
    if name not in known:
        near = nearest(name, known)
        hint = f"did you mean {near}?" if near else f"known are {', '.join(known)}"
        raise InputError(f"no preset {name!r}: {hint}")
    return dict(known[name])


def _plan(values: Any) -> tuple[tuple[int, int], ...]:
    """The recorded plan in a config.yaml. Raises InputError for one that cannot be followed."""
    values = values if isinstance(values, list) else [values]
    pairs = [value for value in values if isinstance(value, list) and [*map(type, value)] == [int, int]]
    entries = tuple((start, total) for start, total in pairs)
    starts = [start for start, _ in entries]
    possible = all(start <= total < 2**63 for start, total in entries)
    follows = not entries or (starts[0] == 0 and starts == sorted(set(starts)) and possible)
    if len(entries) != len(values) or not follows or (entries and entries[-1][1] < 1):
        raise InputError(
            f"plan is {shown(values)} in the settings, but must be pairs [from_step, total_steps], the first from "
            "step 0: leave it out to plan anew"
        )
    return entries


def parse_bytes(value: str, name: str) -> int:
    """A number of bytes, with or without a unit: "2.5GB", "800 MiB", "1000000000". Raises InputError for another."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(?:([kmgt])(i?)b?|b)?\s*", value, re.IGNORECASE)
    n_bytes = 0
    if match:
        number, unit, binary = match.groups()
        given = float(number) * (1024 if binary else 1000) ** (" kmgt".index(unit.lower()) if unit else 0)
        n_bytes = int(given) if given < 2**63 else 0
    _require(n_bytes > 0, name, shown(value), "must be a number of bytes above 0, such as 2.5GB or 800MiB")
    return n_bytes


def _require(holds: bool, name: str, value: Any, rule: str) -> None:
    if not holds:
        raise InputError(f"{name} is {value}, but {rule}")
