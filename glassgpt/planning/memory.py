"""How many bytes a model takes: its weights at each precision, a checkpoint, the cache, and training it.

Letters of the formulas: C embedding_dim, F feed_forward_dim, H heads, K heads of keys and values, D width
of a head, T context_length, V vocab_size.
"""

from collections.abc import Mapping
from math import ceil, prod

from glassgpt.config import GPTConfig, OptimConfig, RunConfig
from glassgpt.planning.activations import FLOAT, activation_bytes, block_bytes, native_step
from glassgpt.planning.parameters import block_matrices, block_shapes, shapes, total_parameters

SETTINGS_BYTES, TENSOR_BYTES, TOKEN_BYTES = 2500, 125, 36
"""In a checkpoint: JSON files but the tokenizer's; name, shape and place of a tensor; a token and how it is merged."""

GROUP = 32
"""Weights of a row that share one scale, where they are quantised."""

INTERPRETER = 260 * 2**20
"""What a process holds before the model: Python, numpy, torch and a small text (measured)."""

KERNELS = {"torch": 40 * 10**6, "native": 34 * 10**6}
"""What comes with the first step: code of PyTorch that is read in when it is first used, space that its kernels work in
(measured on small models; with the native step PyTorch still writes the samples and looks at the activations)."""

CHUNK, BLOCK, SLICE = 2**24, 2**20, 8192
"""Those of `ops.loss`, which would import torch."""

CUDA = 6 * 10**8
"""What CUDA and its libraries take of a GPU's memory, about."""

HOLES = {"fp32": 1.27, "bf16": 1.4}
"""What passes through a step takes this much more of the heap than it holds, as blocks of different sizes leave holes:
with two sizes of numbers more than with one (measured: 1.22 to 1.31, and 1.29 to 1.5)."""

HOLES_RECOMPUTING = 1.7
"""The same where much is made and freed within each block (1.4 to 1.7)."""

HOLES_IN_PARTS = {"fp32": 1.7, "bf16": 1.4}
"""And where a batch goes in parts: the gradients of earlier ones lie between what later ones free (fp32 1.3 to 2.0,
another each time; bf16 1.3 to 1.4)."""
HOLES_RECOMPUTING_IN_PARTS = 1.55
"""Where both are so (1.3 to 1.6).

Before 2.38, glibc finds no room for an aligned block in a gap that the same block has left, if what lies beside it is
in use: it asks for the alignment on top. PyTorch aligns every tensor, so the gaps depend on where small things lie.
"""


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
        hidden = block_matrices(config)
        rows = sum(rows for rows, _ in hidden) if optim.muon_normalise_rows else 0
        moments -= config.n_layers * (sum(map(prod, hidden)) - rows)
    return FLOAT * (moments + (total_parameters(config) if optim.average_share else 0))


def tensor_bytes(config: GPTConfig, with_trainer: bool = True, optim: OptimConfig | None = None) -> int:
    """The tensors in a checkpoint: weights in fp32 and, to go on training, the optimiser's state (None: AdamW's).

    Hugging Face's GPT-2 always has a bias on query, key and value, so where ours has none, zeros are written.
    """
    biasless = config.architecture == "gpt2" and not config.qkv_bias
    zeros = 3 * config.embedding_dim * config.n_layers if biasless else 0
    state = optimizer_bytes(config, optim or OptimConfig()) if with_trainer else 0
    return FLOAT * (total_parameters(config) + zeros) + state


def checkpoint_bytes(
    config: GPTConfig, with_trainer: bool = True, optim: OptimConfig | None = None, tokenizer: int | None = None
) -> int:
    """Size of a checkpoint on disk, a directory: its tensors, what describes them, and its tokenizer.

    `tokenizer` is the size of the tokenizer's files (None: about that of so many tokens).
    """
    block = block_shapes(config)
    n_tensors = config.n_layers * sum(map(len, block.values())) + 4
    if with_trainer:
        averaged = optim is not None and optim.average_share > 0
        matrices = config.n_layers * len(block_matrices(config)) if optim and optim.name == "muon" else 0
        n_tensors += (2 + averaged) * n_tensors - matrices
    files = SETTINGS_BYTES + TENSOR_BYTES * n_tensors
    tokens = TOKEN_BYTES * config.vocab_size if tokenizer is None else tokenizer
    return tensor_bytes(config, with_trainer, optim) + files + tokens


def cache_bytes_per_token(config: GPTConfig, bytes_per_value: int = 4) -> int:
    """What one token leaves in the cache: a key and a value for each head of each layer."""
    return 2 * config.n_layers * config.n_kv_heads * config.head_dim * bytes_per_value


def training_memory(
    config: GPTConfig, optim: OptimConfig | None = None, run: RunConfig | None = None, interpreter: int = INTERPRETER
) -> dict[str, int]:
    """Bytes of training on the CPU, by part; `total` is the peak of the process.

    `optim` (None: its defaults) says the batch and the optimiser, `run` (None: fp32 in PyTorch) precision, kernel,
    threads and whether activations are computed again; they are as settled, `auto` counts as fp32 and as PyTorch.
    The parts are not all there at once, so the total is less than their sum: gradients grow while the backward pass
    frees activations. `interpreter` is what the process holds besides the model, for a caller who has measured it.
    """
    optim, run = optim or OptimConfig(), run or RunConfig()
    weights = FLOAT * total_parameters(config)
    optimizer = optimizer_bytes(config, optim) + (_muon_workspace(config, optim) if optim.name == "muon" else 0)
    parts = {"weights": weights, "gradients": weights, "optimizer": optimizer}
    if run.kernel == "native":
        native = native_step(config, run)
        parts |= native | {"kernel": native["kernel"] + KERNELS["native"], "interpreter": interpreter}
        return parts | {"total": sum(parts.values())}

    bytes_each = 2 if run.dtype == "bf16" else FLOAT
    head = config.vocab_size * config.embedding_dim
    sequences = optim.batch_size // optim.accumulation
    tokens = sequences * config.context_length
    activations = activation_bytes(config, sequences, run.dtype, bool(run.recompute))
    # The chunked loss: a chunk of logits, some blocks of it in fp32, the hidden vectors and their gradient, a slice
    # of the head's gradient and all of it; in bf16 the head's weights as well.
    n_logits = min(tokens, max(16, CHUNK // config.vocab_size)) * config.vocab_size
    slices = bytes_each * config.embedding_dim * (2 * tokens + min(config.vocab_size, SLICE))
    loss = FLOAT * head + bytes_each * n_logits + 3 * FLOAT * min(BLOCK, n_logits) + slices
    loss += 2 * head if run.dtype == "bf16" else 0

    in_parts, precision = optim.accumulation > 1, "bf16" if run.dtype == "bf16" else "fp32"
    holes = (HOLES_IN_PARTS if in_parts else HOLES)[precision]
    at_once = 0  # what a block that is computed again holds: its activations and their gradients
    earlier = weights if in_parts else 0  # gradients of the parts before this one
    if run.recompute:
        holes = HOLES_RECOMPUTING_IN_PARTS if in_parts else HOLES_RECOMPUTING
        at_once = int(2.2 * block_bytes(config, sequences, run.dtype))
    after_forward = earlier + holes * (activations + loss)
    begin_backward = earlier + holes * (activations + at_once + FLOAT * head)
    # At the end all gradients are there; a second one of the head waits beside the sum of the parts before.
    end_backward = weights + holes * (at_once + (FLOAT * head if in_parts else 0.15 * weights))
    kernel = KERNELS["torch"]
    parts |= {"activations": activations + at_once, "loss": loss, "kernel": kernel, "interpreter": interpreter}
    most = int(max(after_forward, begin_backward, end_backward))
    return parts | {"total": interpreter + kernel + weights + optimizer + most}


def parts_at_peak(needed: Mapping[str, int]) -> dict[str, int]:
    """The parts of `training_memory` as far as they are there at its peak: with `holes` they sum to the total.

    Where they are not all there at once, gradients have still to come, or activations have gone: the fewer of the two.
    Holes are what blocks leave between them that the allocator cannot give to others.
    """
    parts = {part: n for part, n in needed.items() if part != "total"}
    forward = [part for part in ("activations", "loss") if part in parts]
    few = parts["gradients"] < sum(parts[part] for part in forward)
    for part in ["gradients", *forward] if few else [*forward, "gradients"]:
        absent = min(parts[part], max(0, sum(parts.values()) - needed["total"]))
        parts[part] -= absent
    holes = needed["total"] - sum(parts.values())
    return parts | ({"holes": holes} if holes else {})


def training_memory_on_gpu(config: GPTConfig, optim: OptimConfig) -> int:
    """Bytes of training in bf16 on a GPU, computed and not measured: what is held where no block leaves a hole.

    Attention goes in one kernel, which keeps a number a query; the rest is as on the CPU.
    """
    optimizer = optimizer_bytes(config, optim) + (_muon_workspace(config, optim) if optim.name == "muon" else 0)
    sequences = optim.batch_size // optim.accumulation
    tokens = sequences * config.context_length
    logits = FLOAT * min(tokens, max(16, CHUNK // config.vocab_size)) * config.vocab_size
    loss = logits + (FLOAT + 2) * config.vocab_size * config.embedding_dim
    held = activation_bytes(config, sequences, "bf16", fused=True)
    return CUDA + 2 * FLOAT * total_parameters(config) + optimizer + held + loss


def _muon_workspace(config: GPTConfig, optim: OptimConfig) -> int:
    """What a step of Muon works in: up to 2^22 numbers at a time or one matrix, once in fp32, four times in its own."""
    sizes = [*map(prod, block_matrices(config))]
    together = min(config.n_layers * sum(sizes), max(2**22, *sizes))
    return together * (FLOAT + 4 * (2 if optim.muon_dtype == "bf16" else FLOAT))
