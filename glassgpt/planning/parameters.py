"""How many parameters a config gives, by component, without building the model."""

from math import prod

from glassgpt.config import PRESETS, GPTConfig

Shape = tuple[int, ...]


def shapes(config: GPTConfig) -> dict[str, list[Shape]]:
    """The shape of every parameter of GPTModel by component; a shared one is listed at the embedding."""
    modern = config.architecture == "modern"
    dim, inner = config.embedding_dim, config.feed_forward_dim
    query_dim, kv_dim = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim
    # RMSNorm has a scale, LayerNorm a shift as well.
    norm: list[Shape] = [(dim,)] if modern else [(dim,), (dim,)]

    attention: list[Shape] = [(query_dim, dim), (kv_dim, dim), (kv_dim, dim), (dim, query_dim)]
    if config.qkv_bias:
        attention += [(query_dim,), (kv_dim,), (kv_dim,)]
    if not modern:
        attention += [(dim,)]
    feed_forward: list[Shape] = [(inner, dim), (dim, inner)]
    feed_forward += [(inner, dim)] if modern else [(inner,), (dim,)]
    head_norms: list[Shape] = [(config.head_dim,), (config.head_dim,)] if config.qk_norm else []

    return {
        "token_embedding": [(config.vocab_size, dim)],
        "position_embedding": [] if modern else [(config.context_length, dim)],
        "attention": attention * config.n_layers,
        "feed_forward": feed_forward * config.n_layers,
        "norms": (2 * norm + head_norms) * config.n_layers + norm,
        "output_head": [] if config.tie_embeddings else [(config.vocab_size, dim)],
    }


def parameters(config: GPTConfig) -> dict[str, int]:
    """Component -> number of parameters; a tied output head has none of its own."""
    return {component: sum(map(prod, listed)) for component, listed in shapes(config).items()}


def total_parameters(config: GPTConfig) -> int:
    return sum(parameters(config).values())


def meanings_of_124m() -> dict[str, int]:
    """Four models are called "the 124M model", GPT-2 small; each has another number of parameters."""
    openai = GPTConfig.from_dict(PRESETS["gpt2-small"])
    chapter = GPTConfig.from_dict(PRESETS["gpt2-small"] | {"qkv_bias": False, "tie_embeddings": False})
    tied = GPTConfig.from_dict(PRESETS["gpt2-small"] | {"qkv_bias": False})
    by_component = parameters(chapter)
    sketched = ("token_embedding", "position_embedding", "output_head")
    return {
        "the chapter's sketch, whose blocks and norm are empty": sum(by_component[name] for name in sketched),
        "the chapter's dictionary: untied, no bias on query, key and value": total_parameters(chapter),
        "the same with the head tied to the token embedding": total_parameters(tied),
        "OpenAI's weights: tied, with a bias on query, key and value": total_parameters(openai),
    }
