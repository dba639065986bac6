"""Attention with a sink: each head may also look at nothing.

A softmax must give all its weight to some tokens, even where none of them is of use; trained models then turn to the
first one (Xiao et al. 2023). Here each head has a learned score for nothing, which takes its share of the weight.

    glassgpt train book.txt --run.code examples/attention.py
    glassgpt compare --with run.code=examples/attention.py --text book.txt --steps 500
"""

import math

import torch
from torch import Tensor, nn

from glassgpt.model import GPTModel, MultiHeadAttention
from glassgpt.ops.attention import causal_mask


class SinkAttention(MultiHeadAttention):
    def __init__(self, config, rotary):
        super().__init__(config, rotary)
        self.sink = nn.Parameter(torch.zeros(config.n_heads))

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        keys, values = (x.repeat_interleave(queries.shape[1] // x.shape[1], dim=1) for x in (keys, values))
        scores = queries @ keys.mT / math.sqrt(self.head_dim)  # (B, H, T, S)
        hidden = ~causal_mask(*scores.shape[-2:], scores.device)
        nothing = self.sink[:, None, None].expand(*scores.shape[:-1], 1)  # (B, H, T, 1)
        weights = torch.cat([scores.masked_fill(hidden, -math.inf), nothing], dim=-1).softmax(dim=-1)
        return self.dropout(weights[..., :-1]) @ values  # (B, H, T, D)


class Model(GPTModel):
    def __init__(self, config):
        super().__init__(config)
        for block in self.blocks:
            block.attention = SinkAttention(config, block.attention.rotary)
