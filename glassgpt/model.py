"""GPT, from its parts to the whole: read it from top to bottom.

Two architectures live here. `gpt2` is the chapter's (Radford et al. 2019): learned positions, LayerNorm, GELU.
`modern` is Qwen3's (Yang et al. 2025), or Llama's with `qk_norm` off: RMSNorm, rotary positions, grouped-query
attention, SwiGLU, no biases. Which of them a model is, is decided where its parts are made; no forward asks.

Every line that changes a shape says the new one, and a test compares these comments with what runs:

    B  batch                        H  heads of the queries        D  width of one head
    T  tokens in this call          K  heads of keys and values    F  inner width of the feed-forward
    S  T plus the cached tokens     C  embedding_dim               V  vocab_size
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glassgpt.config import GPTConfig
from glassgpt.ops.attention import fast_attention, masked_attention, plain_attention
from glassgpt.ops.dropout import PortableDropout
from glassgpt.settings import InputError


class LayerCache(Protocol):
    """Keys and values of one layer that the caller keeps between calls (see `glassgpt.generation.cache`)."""

    length: int
    """Positions kept so far."""

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Keep (B, K, T, D) more and return all there are, (B, K, S, D) each."""
        ...


class RaggedCache(LayerCache, Protocol):
    """The same for a batch of texts of different lengths, where each says where its tokens stand and what they see."""

    positions: Tensor
    """Where the tokens of this call stand, (B, T) int64. The first of them is `length` in the longest text."""
    mask: Tensor
    """Added to the scores: 0 where a token sees a key and -inf where it does not, (B, 1, T, S)."""


def start_of(cache: LayerCache | None) -> int | Tensor:
    """Where the tokens of a call stand: behind those that are kept, or each at a position of its own, (B, T)."""
    return 0 if cache is None else getattr(cache, "positions", cache.length)


class LayerNorm(nn.Module):
    """Layer normalisation (Ba et al. 2016): mean 0 and variance 1 over the features, then a learned scale and shift.

    y = (x - mean) / sqrt(variance + eps) * scale + shift
    """

    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.scale = nn.Parameter(torch.ones(dim))
        self.shift = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.scale.shape, self.scale, self.shift, self.eps)


class RMSNorm(nn.Module):
    """Root-mean-square normalisation (Zhang & Sennrich 2019): LayerNorm without the mean and the shift.

    y = x / sqrt(mean(x^2) + eps) * scale
    """

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.scale = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.scale.shape, self.scale, self.eps)


class GELU(nn.Module):
    """Gaussian error linear unit in its tanh form (Hendrycks & Gimpel 2016), GPT-2's.

    y = 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(x, approximate="tanh")


class FeedForward(nn.Module):
    """Two linear layers with GELU between them, at every position alike: widen, bend, narrow."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.embedding_dim, config.feed_forward_dim)
        self.activation = GELU()
        self.down = nn.Linear(config.feed_forward_dim, config.embedding_dim)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.activation(self.up(x))  # (B, T, F)
        return self.down(inner)  # (B, T, C)


class SwiGLU(nn.Module):
    """The gated feed-forward (Shazeer 2020): one projection decides how much of the other passes."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(config.embedding_dim, config.feed_forward_dim, bias=False)
        self.up = nn.Linear(config.embedding_dim, config.feed_forward_dim, bias=False)
        self.down = nn.Linear(config.feed_forward_dim, config.embedding_dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        inner = F.silu(self.gate(x)) * self.up(x)  # (B, T, F)
        return self.down(inner)  # (B, T, C)


class LearnedPositions(nn.Embedding):
    """One learned vector a position, added to the token's embedding (GPT-2)."""

    def forward(self, x: Tensor, start: int | Tensor = 0) -> Tensor:  # pyrefly: ignore[bad-override]
        rows = slice(start, start + x.shape[1]) if isinstance(start, int) else start
        return x + self.weight[rows]  # (B, T, C)


class RotaryPositions(nn.Module):
    """Rotary positions (Su et al. 2021): turn each pair of features of a head by an angle that grows with position.

    The product of a query and a key then depends on how far apart they stand, not on where. Feature i is paired
    with feature i + D/2 (as in Llama and Qwen3), and pair i turns by position * theta^(-2i / D).
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim
        positions = torch.arange(config.context_length, dtype=torch.float32)
        angles = torch.outer(positions, 1.0 / config.rope_theta**exponents)
        # Derived from the config, so not part of the weights that are saved.
        self.register_buffer("cos", angles.cos().repeat(1, 2), persistent=False)
        self.register_buffer("sin", torch.cat([-angles.sin(), angles.sin()], dim=1), persistent=False)

    def forward(self, x: Tensor, start: int | Tensor = 0) -> Tensor:
        rows = slice(start, start + x.shape[2]) if isinstance(start, int) else start.unsqueeze(1)  # for all heads
        swapped = x.roll(x.shape[-1] // 2, dims=-1)  # (B, H, T, D)
        return x * self.cos[rows] + swapped * self.sin[rows]  # (B, H, T, D)


class NoPositions(nn.Module):
    """Stands where the other architecture has its positions."""

    def forward(self, x: Tensor, start: int | Tensor = 0) -> Tensor:
        return x


class MultiHeadAttention(nn.Module):
    """Causal self-attention: every token gathers what it needs from itself and the tokens before it.

    With fewer heads of keys and values than of queries, neighbouring query heads share one (grouped-query
    attention, Ainslie et al. 2023).
    """

    def __init__(self, config: GPTConfig, rotary: nn.Module | None = None) -> None:
        super().__init__()
        modern = config.architecture == "modern"
        query_dim, kv_dim = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim
        self.query = nn.Linear(config.embedding_dim, query_dim, bias=config.qkv_bias)
        self.key = nn.Linear(config.embedding_dim, kv_dim, bias=config.qkv_bias)
        self.value = nn.Linear(config.embedding_dim, kv_dim, bias=config.qkv_bias)
        self.output_projection = nn.Linear(query_dim, config.embedding_dim, bias=not modern)
        self.query_norm = RMSNorm(config.head_dim, config.norm_eps) if config.qk_norm else nn.Identity()
        self.key_norm = RMSNorm(config.head_dim, config.norm_eps) if config.qk_norm else nn.Identity()
        self.rotary = rotary_layer(config) if rotary is None else rotary
        self.dropout = dropout_layer(config)
        self.head_dim = config.head_dim

    def forward(self, x: Tensor, cache: LayerCache | None = None) -> Tensor:
        queries = self.query_norm(self.split_heads(self.query(x)))  # (B, H, T, D)
        keys = self.key_norm(self.split_heads(self.key(x)))  # (B, K, T, D)
        values = self.split_heads(self.value(x))  # (B, K, T, D)

        start = start_of(cache)
        queries = self.rotary(queries, start)  # (B, H, T, D)
        keys = self.rotary(keys, start)  # (B, K, T, D)
        if cache is not None:
            keys, values = cache.append(keys, values)  # (B, K, S, D)

        mask = getattr(cache, "mask", None)  # without one, each text's tokens are the last of the S
        heads = queries, keys, values
        context = self.attend(*heads) if mask is None else masked_attention(*heads, mask)  # (B, H, T, D)
        return self.output_projection(context.transpose(1, 2).flatten(2))  # (B, T, C)

    def split_heads(self, x: Tensor) -> Tensor:
        heads = x.unflatten(-1, (-1, self.head_dim))  # (B, T, H, D)
        return heads.transpose(1, 2)  # (B, H, T, D)

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """SDPA, except where dropout must draw the chapter's numbers: then step by step."""
        rate = self.dropout.p if self.training else 0.0
        if rate > 0 and (queries.device.type == "cpu" or isinstance(self.dropout, PortableDropout)):
            return plain_attention(queries, keys, values, self.dropout)
        return fast_attention(queries, keys, values, rate)


class TransformerBlock(nn.Module):
    """Attention, then feed-forward, each with a norm before it and a shortcut around it (He et al. 2015).

    The shortcut adds a part's input to its output, so the gradient reaches every layer undiminished and a block
    is as wide at its end as at its start.
    """

    def __init__(self, config: GPTConfig, rotary: nn.Module | None = None) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(config, rotary)
        self.feed_forward = SwiGLU(config) if config.architecture == "modern" else FeedForward(config)
        self.attention_norm = norm_layer(config)
        self.feed_forward_norm = norm_layer(config)
        self.dropout = dropout_layer(config)

    def forward(self, x: Tensor, cache: LayerCache | None = None) -> Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x), cache))  # (B, T, C)
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))  # (B, T, C)


class GPTModel(nn.Module):
    """Token ids in, a score for every token of the vocabulary to come next out.

    Takes a GPTConfig or the chapter's dictionary. The weights start as PyTorch's layers make them (the numbers of
    the chapter depend on it); training calls `initialise`.
    """

    def __init__(self, config: GPTConfig | Mapping[str, Any]) -> None:
        super().__init__()
        config = config if isinstance(config, GPTConfig) else GPTConfig.from_dict(config)
        self.config = config
        modern = config.architecture == "modern"
        learned = (config.context_length, config.embedding_dim)
        self.token_embedding = nn.Embedding(config.vocab_size, config.embedding_dim)
        self.position_embedding = NoPositions() if modern else LearnedPositions(*learned)
        self.dropout = dropout_layer(config)
        rotary = rotary_layer(config)  # one table serves all layers
        self.blocks = nn.ModuleList(TransformerBlock(config, rotary) for _ in range(config.n_layers))
        self.final_norm = norm_layer(config)
        self.output_head = nn.Linear(config.embedding_dim, config.vocab_size, bias=False)
        if config.tie_embeddings:
            self.output_head.weight = self.token_embedding.weight

    def forward(self, ids: Tensor, cache: Sequence[LayerCache] | None = None) -> Tensor:
        """ids (B, T) int64 -> logits (B, T, V). `cache` has one LayerCache a layer and grows by T positions.

        Raises InputError where the tokens, cached ones included, are more than context_length.
        """
        return self.output_head(self.hidden(ids, cache))  # (B, T, V)

    def hidden(self, ids: Tensor, cache: Sequence[LayerCache] | None = None) -> Tensor:
        """What the output head sees: the context vector of each token, (B, T, C)."""
        length = ids.shape[1] + (cache[0].length if cache else 0)
        if length > self.config.context_length:
            raise InputError(
                f"{length} tokens do not fit the model's context_length of "
                f"{self.config.context_length}: give it fewer, or a model with a longer context"
            )
        x = self.token_embedding(ids)  # (B, T, C)
        x = self.dropout(self.position_embedding(x, start_of(cache[0] if cache else None)))  # (B, T, C)
        for layer, block in enumerate(self.blocks):
            x = block(x, cache[layer] if cache else None)  # (B, T, C)
        return self.final_norm(x)  # (B, T, C)


def rotary_layer(config: GPTConfig) -> nn.Module:
    """What attention does to queries and keys to tell where they stand: rotary positions (modern) or nothing."""
    return RotaryPositions(config) if config.architecture == "modern" else NoPositions()


def norm_layer(config: GPTConfig) -> nn.Module:
    """The architecture's normalisation over embedding_dim features."""
    norm = RMSNorm if config.architecture == "modern" else LayerNorm
    return norm(config.embedding_dim, config.norm_eps)


def dropout_layer(config: GPTConfig) -> nn.Dropout:
    """Dropout at the config's rate from the config's stream."""
    return (PortableDropout if config.dropout == "portable" else nn.Dropout)(config.dropout_rate)


@torch.no_grad()
def initialise(model: nn.Module, generator: torch.Generator) -> None:
    """Weights for the start of training.

    gpt2 as GPT-2 has them (Radford et al. 2019, section 2.3): normal with standard deviation 0.02, biases 0, and the
    two matrices of a block that write into the residual stream divided by sqrt(2 n_layers), so that its variance does
    not grow with depth. modern: those two matrices are 0, so that a block begins as a shortcut and nothing else
    (Zhang et al. 2019, Fixup); the others 0.6 / sqrt(inputs), embeddings and head 1 / sqrt(embedding_dim); the scale of
    the final norm 0.3: all shortcuts and a tied head would else be sure that each token comes again.

    Each matrix is drawn from a stream of its own, which follows from `generator` and the matrix's name: a variant with
    one matrix more has all others as they are without it.
    """
    drawn = int(torch.randint(2**62, (), generator=generator))
    n_layers = sum(isinstance(module, TransformerBlock) for module in model.modules()) or 1
    modern = any(isinstance(module, RMSNorm) for module in model.modules())
    for name, module in model.named_modules():
        if name == "final_norm" and isinstance(module, RMSNorm):
            module.scale.fill_(0.3)
        if isinstance(module, nn.Linear | nn.Embedding):
            writes = name.endswith(("output_projection", "down"))
            if modern:
                scale = 0.0 if writes else 0.6 if name.startswith("blocks.") else 1.0
                std = scale / math.sqrt(module.weight.shape[1])
            else:
                std = 0.02 / math.sqrt(2 * n_layers) if writes else 0.02
            stream = hashlib.sha256(f"{drawn} {name}".encode()).digest()
            own = torch.Generator(generator.device).manual_seed(int.from_bytes(stream[:7], "big"))
            module.weight.normal_(0.0, std, generator=own)
            if isinstance(module, nn.Linear) and module.bias is not None:
                module.bias.zero_()
