"""Small models of every shape that a checkpoint can have, and ids to compare them by."""

import tempfile
from pathlib import Path

import torch
from torch import Tensor

from glassgpt.checkpoint.stored import StoredTensor, read_stored
from glassgpt.checkpoint.tensors import safetensors_parts
from glassgpt.config import GPTConfig
from glassgpt.model import GPTModel

_GPT2 = {"architecture": "gpt2", "vocab_size": 61, "context_length": 16, "embedding_dim": 24, "n_heads": 3}
_MODERN = _GPT2 | {"architecture": "modern"}

CONFIGS = {
    "gpt2": GPTConfig(**_GPT2, n_layers=2),
    "gpt2-tied": GPTConfig(**_GPT2, n_layers=2, tie_embeddings=True),
    "gpt2-bias": GPTConfig(**_GPT2, n_layers=2, qkv_bias=True, dropout_rate=0.2, dropout="portable"),
    "gpt2-tied-bias": GPTConfig(**_GPT2, n_layers=3, qkv_bias=True, tie_embeddings=True, dropout_rate=0.1),
    "gpt2-narrow": GPTConfig(**_GPT2, n_layers=1, feed_forward_dim=40, norm_eps=1e-3, qkv_bias=True),
    "llama": GPTConfig(**_MODERN, n_layers=2, qk_norm=False),
    "llama-grouped-tied": GPTConfig(**_MODERN | {"n_heads": 6}, n_layers=2, n_kv_heads=2, qk_norm=False,
                                    tie_embeddings=True, rope_theta=500_000.0, norm_eps=1e-6),
    "llama-wide-heads": GPTConfig(**_MODERN, n_layers=1, n_kv_heads=1, head_dim=10, qk_norm=False),
    "qwen3": GPTConfig(**_MODERN, n_layers=2, dropout_rate=0.1),
    "qwen3-grouped-tied": GPTConfig(**_MODERN | {"n_heads": 4}, n_layers=2, n_kv_heads=2, tie_embeddings=True,
                                    rope_theta=1e6, norm_eps=1e-6),
    "qwen3-wide-heads": GPTConfig(**_MODERN, n_layers=3, n_kv_heads=1, head_dim=16, feed_forward_dim=33),
}  # fmt: skip


@torch.no_grad()
def randomise(model: torch.nn.Module, seed: int = 0) -> None:
    """Give every parameter values that matter: initialisers leave biases at 0 and norms at 1."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        values = torch.randn(parameter.shape, generator=generator)
        parameter.copy_(values * 0.2 if parameter.dim() > 1 else 0.8 + values * 0.3)


def random_model(config: GPTConfig, seed: int = 0) -> GPTModel:
    model = GPTModel(config)
    randomise(model, seed)
    return model.eval()


def some_ids(vocab_size: int, length: int) -> Tensor:
    return torch.randint(vocab_size, (2, length), generator=torch.Generator().manual_seed(1))


def same_weights(one: GPTModel, other: GPTModel) -> bool:
    """Whether two models are of one config and have the same weights, bit for bit."""
    theirs = dict(other.named_parameters())
    mine = dict(one.named_parameters())
    bits = {name: (mine[name].view(torch.int32), theirs[name].view(torch.int32)) for name in mine}
    equal = all(torch.equal(a, b) for a, b in bits.values())
    return one.config == other.config and mine.keys() == theirs.keys() and equal


def stored(tensors: dict[str, Tensor]) -> dict[str, StoredTensor]:
    """Tensors as a file holds them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.safetensors")
        path.write_bytes(b"".join(safetensors_parts(tensors)))
        return read_stored(path)
