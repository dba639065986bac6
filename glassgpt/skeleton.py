"""DummyGPTModel: the seed's first sketch of a GPT. Its blocks and its norm are empty; the flow of data is there."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from glassgpt.config import GPTConfig
from glassgpt.ops.dropout import PortableDropout


class DummyTransformerBlock(nn.Module):
    """Stands where a transformer block will be: passes its input on."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class DummyLayerNorm(nn.Module):
    """Stands where the final normalisation will be: passes its input on."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class DummyGPTModel(nn.Module):
    """The six fields of a GPT in their order, with the seed's dropout, which draws equal numbers on every platform.

    Takes a GPTConfig or the chapter's dictionary.
    """

    def __init__(self, config: GPTConfig | Mapping[str, Any]) -> None:
        super().__init__()
        config = config if isinstance(config, GPTConfig) else GPTConfig.from_dict(config)
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.embedding_dim)
        self.position_embedding = nn.Embedding(config.context_length, config.embedding_dim)
        self.dropout = PortableDropout(config.dropout_rate)
        self.blocks = nn.Sequential(*(DummyTransformerBlock() for _ in range(config.n_layers)))
        self.final_norm = DummyLayerNorm()
        self.output_head = nn.Linear(config.embedding_dim, config.vocab_size, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        """ids (B, T) int64 -> logits (B, T, V)."""
        positions = torch.arange(ids.shape[1], device=ids.device)
        x = self.token_embedding(ids) + self.position_embedding(positions)  # (B, T, C)
        x = self.dropout(x)
        x = self.blocks(x)
        x = self.final_norm(x)
        return self.output_head(x)  # (B, T, V)
