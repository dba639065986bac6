"""How many bytes a model takes: its weights at each precision, a checkpoint, the cache, and training it.

Letters of the formulas: C embedding_dim, F feed_forward_dim, H heads, K heads of keys and values, D width
of a head, T context_length, V vocab_size.
"""

from math import ceil, prod

from glassgpt.config import GPTConfig, OptimConfig
from glassgpt.planning.parameters import shapes, total_parameters

FLOAT = 4
"""Bytes of an fp32 number."""

GROUP = 32
"""Weights of a row that share one scale, where they are quantised."""

INTERPRETER = 320 * 2**20
"""What a process holds besides the model: Python, numpy, torch and the buffers of its kernels (measured)."""


def storage(config: GPTConfig) -> dict[str, int]:
    """Bytes of the weights at each precision.

    int8 and int4 quantise the matrices, embeddings included: a weight takes 8 or 4 bits, and each group of
    32 in a row shares a scale of 16 bits, so a matrix of r rows and c columns takes r * (c * bits / 8 + 2 *
    ceil(c / 32)). Norms and biases stay fp32.
    """
    every = [shape for listed in shapes(config).values() for shape in listed]
    total = sum(map(prod, every))

    def quantised(bits: int) -> int:
        matrices = [shape for shape in every if len(shape) == 2]
        vectors = [shape for shape in every if len(shape) == 1]
        rows = sum(r * (ceil(c * bits / 8) + 2 * ceil(c / GROUP)) for r, c in matrices)
        return rows + sum(FLOAT * prod(shape) for shape in vectors)

    return {"fp32": FLOAT * total, "bf16": 2 * total, "int8": quantised(8), "int4": quantised(4)}


def optimizer_bytes(config: GPTConfig, optim: OptimConfig) -> int:
    """What the optimiser keeps between steps, in memory and in a checkpoint.

    Two moments of every parameter with AdamW, one of the matrices in the blocks with Muon; and the weights once
    more where their average is kept.
    """
    moments = 2 * total_parameters(config)
    if optim.name == "muon":
        hidden = _hidden_matrices(config)
        moments -= sum(map(prod, hidden)) - (sum(rows for rows, _ in hidden) if optim.muon_normalise_rows else 0)
    return FLOAT * (moments + (total_parameters(config) if optim.average_share else 0))


def checkpoint_bytes(config: GPTConfig, with_trainer: bool = True, optim: OptimConfig | None = None) -> int:
    """Size of a checkpoint on disk, but for the tokenizer and a few kilobytes of headers.

    Weights in fp32 and, to go on training, the state of the optimiser (None: AdamW's). Hugging Face's GPT-2 always
    has a bias on query, key and value, so where ours has none, zeros are written.
    """
    biasless = config.architecture == "gpt2" and not config.qkv_bias
    zeros = 3 * config.embedding_dim * config.n_layers if biasless else 0
    return FLOAT * (total_parameters(config) + zeros) + (
        optimizer_bytes(config, optim or OptimConfig()) if with_trainer else 0
    )


def cache_bytes_per_token(config: GPTConfig, bytes_per_value: int = 4) -> int:
    """What one token leaves in the cache: a key and a value for each head of each layer."""
    return 2 * config.n_layers * config.n_kv_heads * config.head_dim * bytes_per_value


def training_memory(
    config: GPTConfig,
    batch_size: int,
    accumulation: int = 1,
    interpreter: int = INTERPRETER,
    optim: OptimConfig | None = None,
) -> dict[str, int]:
    """Bytes of training on the CPU in fp32 by `optim`'s optimiser (None: AdamW); `total` is the peak of the process.

    The parts are not all there at once, so the total is less than their sum: gradients grow while the
    backward pass frees activations, so one is nearly gone when the other is largest. `interpreter` is what the
    process holds besides the model, for a caller who has measured it.
    """
    weights = FLOAT * total_parameters(config)
    matrix = FLOAT * config.vocab_size * config.embedding_dim
    sequences = batch_size // accumulation
    tokens = sequences * config.context_length
    activations = activation_bytes(config, sequences)
    # The chunked loss: three tensors of a chunk, the head's gradient, the hidden vectors and their gradient.
    rows = min(tokens, max(16, 2**23 // config.vocab_size))
    loss = 3 * FLOAT * rows * config.vocab_size + matrix + 2 * FLOAT * tokens * config.embedding_dim

    optim = optim or OptimConfig()
    optimizer = optimizer_bytes(config, optim) + (_muon_workspace(config, optim) if optim.name == "muon" else 0)
    earlier = weights if accumulation > 1 else 0  # gradients of the parts before this one
    after_forward = activations + loss + earlier
    # The token embedding's gradient is a whole matrix; tied, it is added to the head's, which waits for it.
    after_backward = weights + (2 * matrix if config.tie_embeddings or accumulation > 1 else 0)
    return {
        "weights": weights,
        "gradients": weights,
        "optimizer": optimizer,
        "activations": activations,
        "loss": loss,
        "interpreter": interpreter,
        "total": interpreter + weights + optimizer + max(after_forward, after_backward),
    }


def _hidden_matrices(config: GPTConfig) -> list[tuple[int, int]]:
    """Shapes of what Muon updates: the matrices in the blocks."""
    by_component = shapes(config)
    return [(s[0], s[1]) for s in by_component["attention"] + by_component["feed_forward"] if len(s) == 2]


def _muon_workspace(config: GPTConfig, optim: OptimConfig) -> int:
    """What a step of Muon works in: up to 2^22 numbers at a time or one matrix, once in fp32, four times in its own."""
    sizes = [rows * columns for rows, columns in _hidden_matrices(config)]
    together = min(sum(sizes), max(2**22, *sizes))
    return together * (FLOAT + 4 * (2 if optim.muon_dtype == "bf16" else FLOAT))


def activation_bytes(config: GPTConfig, n_sequences: int) -> int:
    """What the forward pass keeps for the backward pass: exactly what autograd saves for `GPTModel.hidden`.

    With dropout on the CPU attention goes step by step and keeps, a head, three T x T matrices: the
    weights, the noise and their product. Without, the fused kernel keeps one number a query.
    """
    modern, dropout = config.architecture == "modern", config.dropout_rate > 0
    dim, inner, length = config.embedding_dim, config.feed_forward_dim, config.context_length
    query_dim, kv_dim = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim

    # Numbers a token. RMSNorm keeps its input, the normalised input and a factor; LayerNorm its input and two
    # numbers, mean and factor.
    norm = 2 * dim + 1 if modern else dim + 2
    noise = dim if dropout else 0  # of the dropout before each shortcut and after the embeddings
    feed_forward = (4 if modern else 2) * inner
    head_norms = 2 * (query_dim + kv_dim) + config.n_heads + config.n_kv_heads if config.qk_norm else 0
    if dropout:
        # Keys and values are repeated for every query head.
        attention = 4 * query_dim + 3 * config.n_heads * length
    else:
        # The fused kernel's output has the layout of the queries; after a norm of heads it is copied back.
        outputs = 2 if config.qk_norm else 1
        attention = (1 + outputs) * query_dim + 2 * kv_dim + config.n_heads
    block = 2 * (norm + dim + noise) + head_norms + attention + feed_forward
    outside = 2 + noise + norm  # the ids are 8 bytes each

    masks = config.n_layers * length**2 if dropout else 0  # one byte an element, shared by the batch
    return FLOAT * n_sequences * length * (config.n_layers * block + outside) + masks
