"""How many parameters a config gives, by component, without building the model."""

from math import prod

from glassgpt.config import PRESETS, GPTConfig

Shape = tuple[int, ...]


def block_shapes(config: GPTConfig) -> dict[str, list[Shape]]:
    """The shape of every parameter of one block, by component."""
    modern = config.architecture == "modern"
    dim, inner = config.embedding_dim, config.feed_forward_dim
    query_dim, kv_dim = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim

    attention: list[Shape] = [(query_dim, dim), (kv_dim, dim), (kv_dim, dim), (dim, query_dim)]
    if config.qkv_bias:
        attention += [(query_dim,), (kv_dim,), (kv_dim,)]
    if not modern:
        attention += [(dim,)]
    feed_forward: list[Shape] = [(inner, dim), (dim, inner)]
    feed_forward += [(inner, dim)] if modern else [(inner,), (dim,)]
    head_norms: list[Shape] = [(config.head_dim,), (config.head_dim,)] if config.qk_norm else []
    return {"attention": attention, "feed_forward": feed_forward, "norms": 2 * _norm(config) + head_norms}


def block_matrices(config: GPTConfig) -> list[tuple[int, int]]:
    """The shapes of the matrices of one block, which multiply each token and which Muon updates."""
    listed = block_shapes(config)
    every = listed["attention"] + listed["feed_forward"]
    return [(shape[0], shape[1]) for shape in every if len(shape) == 2]


def shapes(config: GPTConfig) -> dict[str, list[Shape]]:
    """The shape of every parameter of GPTModel by component; a shared one is listed at the embedding."""
    ends, block = _end_shapes(config), block_shapes(config)
    return {component: block.get(component, []) * config.n_layers + listed for component, listed in ends.items()}


def parameters(config: GPTConfig) -> dict[str, int]:
    """Component -> number of parameters; a tied output head has none of its own."""
    block = {component: sum(map(prod, listed)) for component, listed in block_shapes(config).items()}
    return {
        component: config.n_layers * block.get(component, 0) + sum(map(prod, listed))
        for component, listed in _end_shapes(config).items()
    }


def _end_shapes(config: GPTConfig) -> dict[str, list[Shape]]:
    """Those outside the blocks, of every component."""
    dim, modern = config.embedding_dim, config.architecture == "modern"
    return {
        "token_embedding": [(config.vocab_size, dim)],
        "position_embedding": [] if modern else [(config.context_length, dim)],
        "attention": [],
        "feed_forward": [],
        "norms": _norm(config),
        "output_head": [] if config.tie_embeddings else [(config.vocab_size, dim)],
    }


def _norm(config: GPTConfig) -> list[Shape]:
    """RMSNorm has a scale, LayerNorm a shift as well."""
    scale: Shape = (config.embedding_dim,)
    return [scale] if config.architecture == "modern" else [scale, scale]


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
