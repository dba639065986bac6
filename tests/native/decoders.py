"""Small models of every shape, and decoders of them."""

import numpy as np
import pytest
import torch

from glassgpt.config import GPTConfig
from glassgpt.model import GPTModel, initialise
from glassgpt.native import compiled
from glassgpt.native.decoder import Decoder
from glassgpt.native.packing import pack

TIERS = ("plain", "avx2", "avx512", "avx512-vnni", "avx512-bf16")


def tiers_of_this_processor():
    """Those that it can run: asked for another, the library takes its best."""
    found = []
    with pytest.MonkeyPatch.context() as patch:
        for name in TIERS:
            patch.setenv("GLASSGPT_NATIVE_TIER", name)
            found += [name] if compiled.tier() == name else []
    return found


SHAPES = {
    "gpt2": {"context_length": 64, "embedding_dim": 64, "n_heads": 2},
    "gpt2, all biases, uneven widths, tied": {
        "context_length": 50, "embedding_dim": 60, "n_heads": 6, "qkv_bias": True, "tie_embeddings": True,
        "vocab_size": 130,
    },
    "modern, tied": {
        "architecture": "modern", "context_length": 70, "embedding_dim": 96, "n_heads": 2, "tie_embeddings": True,
    },
    "llama, grouped heads, uneven widths": {
        "architecture": "modern", "context_length": 37, "embedding_dim": 100, "n_heads": 6, "n_kv_heads": 2,
        "head_dim": 18, "qk_norm": False, "vocab_size": 301, "feed_forward_dim": 100,
    },
}  # fmt: skip


def model_of(shape, **changes):
    """A model whose logits spread like those of a trained one."""
    config = GPTConfig.from_dict({"vocab_size": 65, "n_layers": 2} | SHAPES[shape] | changes)
    model = GPTModel(config).eval()
    initialise(model, torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():  # away from zero biases and scales of one
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return model


def parts_of(model, form):
    """Matrices in a format, and vectors."""
    matrices, vectors = {}, {}
    for name, parameter in model.named_parameters():
        values = parameter.detach().numpy()
        if values.ndim == 2 and name != "position_embedding.weight":
            matrices[name] = pack(values, form)
        else:
            vectors[name] = np.ascontiguousarray(values)
    return matrices, vectors


def decoder_of(model, form="fp32", threads=2, **options):
    matrices, vectors = parts_of(model, form)
    return Decoder(model.config, matrices, vectors, threads=threads, **options)


def tokens(model, n, seed=0):
    return np.random.default_rng(seed).integers(model.config.vocab_size, size=n).tolist()
