"""What training takes on named GPUs, and how many tokens make the best of compute."""

import pytest

from glassgpt.config import PRESETS, GPTConfig, OptimConfig
from glassgpt.planning.flops import flops_per_token
from glassgpt.planning.gpus import GPUS, LAUNCH_SECONDS, UTILISATION, on_gpus
from glassgpt.planning.memory import training_memory, training_memory_on_gpu
from glassgpt.planning.optimal import compute_optimal
from glassgpt.planning.parameters import total_parameters

SMALL = GPTConfig.from_dict(PRESETS["gpt2-small"] | {"dropout_rate": 0.0})


def test_compute_optimal_training_is_twenty_tokens_for_every_parameter() -> None:
    found = compute_optimal(SMALL)
    assert (found.parameters, found.tokens) == (124_439_808, 20 * 124_439_808)
    assert found.flops == found.tokens * sum(flops_per_token(SMALL).values())
    untied = GPTConfig.from_dict(PRESETS["gpt2-small"] | {"tie_embeddings": False})
    assert compute_optimal(untied).tokens == 20 * total_parameters(untied), "embeddings count, a shared one once"


def test_every_gpu_has_a_source_and_figures_of_its_kind() -> None:
    assert len({gpu.name for gpu in GPUS}) == len(GPUS) >= 7
    for gpu in GPUS:
        assert "NVIDIA" in gpu.source
        assert 16e9 <= gpu.memory_bytes < 1e12
        assert 30 < gpu.flops_per_s / gpu.bytes_per_s < 1000, "FLOPs for each byte that memory gives"


def test_gpt2_small_on_an_h100_takes_what_the_assumed_share_was_read_from() -> None:
    h100 = next(found for found in on_gpus(SMALL, OptimConfig(batch_size=32)) if found.gpu.name == "H100")
    assert h100.tokens_per_s == pytest.approx(378_000, rel=0.02)
    assert h100.tokens_per_s * sum(flops_per_token(SMALL).values()) == pytest.approx(UTILISATION * 989e12)
    assert h100.seconds_per_million_tokens * h100.tokens_per_s == pytest.approx(1e6)


def test_a_model_too_small_for_a_gpu_is_as_fast_on_all_as_its_kernels_are_called() -> None:
    shape = {"n_layers": 3, "embedding_dim": 128, "n_heads": 2, "vocab_size": 512, "context_length": 256}
    tiny = GPTConfig.from_dict(shape | {"architecture": "modern"})
    found = on_gpus(tiny, OptimConfig(batch_size=4))
    assert all(gpu.by_calls for gpu in found if gpu.gpu.name in ("A100 80GB", "H100", "H200"))
    fast = {gpu.gpu.name: gpu.tokens_per_s for gpu in found}
    assert fast["H100"] == fast["A100 80GB"] < 1024 / (3 * 100 * LAUNCH_SECONDS)
    assert not any(gpu.by_calls for gpu in on_gpus(SMALL, OptimConfig(batch_size=4)))


def test_what_does_not_fit_on_a_small_gpu_fits_on_a_large_one() -> None:
    large = GPTConfig.from_dict(PRESETS["gpt2-xl"])
    fits = {found.gpu.name: found.fits for found in on_gpus(large, OptimConfig(batch_size=1))}
    assert not fits["T4"]
    assert fits["H200"]
    small = on_gpus(GPTConfig.from_dict(PRESETS["modern-tiny"]), OptimConfig(batch_size=1))
    assert all(found.fits for found in small)


def test_on_a_gpu_attention_keeps_no_weights_so_memory_grows_with_the_context_alone() -> None:
    def held(context_length: int) -> int:
        config = GPTConfig.from_dict(PRESETS["modern-small"] | {"context_length": context_length})
        return training_memory_on_gpu(config, OptimConfig(batch_size=4096 // context_length))

    assert held(4096) == pytest.approx(held(1024), rel=1e-3)
    assert held(1024) < training_memory(SMALL, OptimConfig(batch_size=4))["total"]
