"""How many tokens make the best of the compute that training takes."""

from dataclasses import dataclass

from glassgpt.config import GPTConfig
from glassgpt.planning.flops import flops_per_token
from glassgpt.planning.parameters import total_parameters

TOKENS_PER_PARAMETER = 20
"""Hoffmann et al. 2022, table 3. They count all parameters, those of the embeddings too; a tied head counts once."""


@dataclass(frozen=True, kw_only=True)
class ComputeOptimal:
    """Training after which a larger model on fewer tokens, or a smaller one on more, would do no better."""

    parameters: int
    tokens: int
    flops: int
    """Of all of it, forward and backward."""


def compute_optimal(config: GPTConfig) -> ComputeOptimal:
    """By the rule of Hoffmann et al.; it was found on web text that is read once."""
    n_parameters = total_parameters(config)
    tokens = TOKENS_PER_PARAMETER * n_parameters
    return ComputeOptimal(
        parameters=n_parameters, tokens=tokens, flops=tokens * sum(flops_per_token(config).values())
    )
