"""How much arithmetic a token costs.

The rule, as in Chowdhery et al. 2022 (PaLM), appendix B, and Kaplan et al. 2020, section 2.1: a multiply
and an add are 2 FLOPs; only matrix products count. Each weight of a matrix meets each token once. Attention
adds, a layer, the scores and the weighted sum: each a product of head width with every position of the
context, counted without the saving that the causal mask allows. Embedding look-ups, norms, biases and
softmax are not counted. The backward pass has two products for each of the forward pass: one gives the
gradient of the input, one the weight's.
"""

from math import prod

from glassgpt.config import GPTConfig
from glassgpt.planning.parameters import block_matrices


def flops_per_token(config: GPTConfig, context: int | None = None) -> dict[str, int]:
    """{"forward", "backward"} for one token among `context` positions (default: the whole context_length)."""
    head = config.vocab_size * config.embedding_dim  # multiplies, tied or not
    weights = config.n_layers * sum(map(prod, block_matrices(config))) + head
    positions = config.context_length if context is None else context
    attention = 2 * config.n_layers * config.n_heads * config.head_dim * positions
    forward = 2 * (weights + attention)
    return {"forward": forward, "backward": 2 * forward}


def muon_flops(config: GPTConfig, iterations: int) -> int:
    """What one step of Muon costs, whatever the batch: the Newton–Schulz iterations on every matrix of the blocks.

    With r the smaller and c the larger side, an iteration multiplies r x c by c x r, r x r by r x r and r x r by r x c.
    """
    sides = map(sorted, block_matrices(config))
    return iterations * config.n_layers * sum(4 * r * r * c + 2 * r**3 for r, c in sides)
