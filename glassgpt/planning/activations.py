"""How many bytes a step of training keeps between its forward and its backward pass.

Letters: C embedding_dim, F feed_forward_dim, H heads, K heads of keys and values, D width of a head, T
context_length, V vocab_size.
"""

from math import prod

from glassgpt.config import GPTConfig, RunConfig
from glassgpt.planning.parameters import block_matrices, total_parameters

FLOAT = 4
"""Bytes of an fp32 number."""

QUERIES = 256
"""That of `ops.attention`, which would import torch."""


def activation_bytes(
    config: GPTConfig, n_sequences: int, dtype: str = "fp32", recompute: bool = False, fused: bool = False
) -> int:
    """What the forward pass keeps for the backward pass: on the CPU exactly what autograd saves for `GPTModel.hidden`.

    `fused`: attention is one kernel that keeps a number a query whatever the precision, as on a GPU. In bf16 the
    residual stream, the norms and the noise of the first dropout are fp32 all the same. Where blocks are recomputed,
    only what enters each of them is kept.
    """
    dim, dropout = config.embedding_dim, config.dropout_rate > 0
    tokens = n_sequences * config.context_length
    block = FLOAT * tokens * dim if recompute else block_bytes(config, n_sequences, dtype, fused)
    masks = config.n_layers * config.context_length**2 if dropout and not recompute and not fused else 0
    return config.n_layers * block + masks + FLOAT * tokens * (2 + dim * dropout + _norm(config))


def block_bytes(config: GPTConfig, n_sequences: int, dtype: str = "fp32", fused: bool = False) -> int:
    """The same of one block, but for the masks of dropout, which the sequences share.

    With dropout on the CPU attention goes step by step and keeps, a head, three T x T matrices: the weights, the
    noise and their product. Without, the fused kernel keeps one number a query in fp32, ours all weights in bf16.
    """
    modern, dropout, half = config.architecture == "modern", config.dropout_rate > 0, dtype == "bf16"
    dim, inner, length = config.embedding_dim, config.feed_forward_dim, config.context_length
    query_dim, kv_dim = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim

    head_norms = 2 * (query_dim + kv_dim) + config.n_heads + config.n_kv_heads if config.qk_norm else 0
    stepwise, blockwise = dropout and not fused, half and not dropout and not fused
    if stepwise:  # keys and values are repeated for every query head
        attention = 4 * query_dim + 3 * config.n_heads * length
    elif blockwise:
        attention = 2 * query_dim + 2 * kv_dim
    else:  # the output has the layout of the queries; after a norm of heads it is copied back
        attention = (3 if config.qk_norm else 2) * query_dim + 2 * kv_dim + config.n_heads
    feed_forward = (4 if modern else 2) * inner
    noise = dim if dropout else 0  # before each shortcut
    elements = length * (2 * (dim + noise) + attention + feed_forward)  # of the precision of the products
    if blockwise:  # of the weights; a block of queries meets the keys up to its last
        blocks, rest = divmod(length, QUERIES)
        elements += config.n_heads * (QUERIES**2 * blocks * (blocks + 1) // 2 + rest * length)
    return n_sequences * (FLOAT * length * (2 * _norm(config) + head_norms) + (2 if half else FLOAT) * elements)


def _norm(config: GPTConfig) -> int:
    """Numbers a token: RMSNorm keeps its input, the normalised input and a factor; LayerNorm its input and two."""
    dim = config.embedding_dim
    return 2 * dim + 1 if config.architecture == "modern" else dim + 2


def native_step(config: GPTConfig, run: RunConfig) -> dict[str, int]:
    """What the native step (`native/train.cpp`) takes besides one set of gradients, of which each thread has its own.

    Weights packed for both passes, and the activations of some 512 tokens a thread. In bf16 all of it is there a
    second time in fp32, for evaluations, which touch no gradients and nothing that the backward pass works in.
    """
    head = config.vocab_size * config.embedding_dim
    packed = 2 * (config.n_layers * sum(map(prod, block_matrices(config))) + head)
    dim, inner, query_dim = config.embedding_dim, config.feed_forward_dim, config.n_heads * config.head_dim
    heads = query_dim + 2 * config.n_kv_heads * config.head_dim
    length = config.context_length
    tokens = max(1, 512 // length) * length
    wide, gated = max(heads, inner, dim), config.architecture == "modern"
    rows = min(tokens, max(24, 2**18 // config.vocab_size))
    threads = max(1, run.threads)

    def once(bytes_each: int, backward: bool) -> tuple[int, int]:
        layer = FLOAT * (2 * dim + heads + (1 + gated) * inner) + bytes_each * (2 * dim + heads + query_dim + inner)
        work = FLOAT * (dim + wide) + bytes_each * (dim + wide)
        logits = rows * config.vocab_size * FLOAT
        attention = bytes_each * length * (length + 6 * config.head_dim)  # of one head at a time
        gradients = 0
        if backward:
            work += FLOAT * (dim + wide) + bytes_each * (2 * wide + max(wide, config.vocab_size))
            logits += 2 * bytes_each * rows * config.vocab_size
            attention += 2 * bytes_each * length**2
            gradients = FLOAT * (threads - 1) * total_parameters(config)
        activations = threads * (tokens * (config.n_layers * layer + work) + logits + attention)
        return bytes_each * packed + gradients, activations

    found = [once(2 if run.dtype == "bf16" else FLOAT, True), *([once(FLOAT, False)] if run.dtype == "bf16" else [])]
    return {"kernel": sum(space for space, _ in found), "activations": sum(kept for _, kept in found)}
