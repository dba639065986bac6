"""Named GPUs: what their makers say of them, and what training a model should take there.

These times are computed, not measured: a GPU reaches a share of its peak that depends on the model. A small model keeps
none of them busy: then a step takes as long as the calls of its kernels.
"""

from dataclasses import asdict, dataclass
from typing import Any

from glassgpt.config import GPTConfig, OptimConfig
from glassgpt.planning.flops import flops_per_token, muon_flops
from glassgpt.planning.memory import storage, training_memory_on_gpu
from glassgpt.planning.optimal import compute_optimal

UTILISATION = 0.33
"""Share of the peak that training is assumed to reach: what nanoGPT does with GPT-2 124M, 1,024 tokens and bf16 on an
H100 (378,000 tokens/s). Its README's four days for 300 billion tokens on eight A100s are 0.29; the best public code
reaches 0.42 on an H200."""

LAUNCH_SECONDS = 5e-6
"""What PyTorch takes to call one kernel, at least (assumed)."""

CALLS = {"gpt2": {"adamw": 90, "muon": 330}, "modern": {"adamw": 202, "muon": 482}}
"""Kernels that a step calls for a layer: counted on the CPU, views left out. The ends count as one layer more."""

USABLE = 0.92
"""Share of the memory that a model can have: the rest is the driver's, and lost between blocks."""


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """Figures of its data sheet."""

    name: str
    memory_bytes: int
    flops_per_s: float
    """Dense, of 16-bit matrix products with sums in fp32."""
    bytes_per_s: float
    """Of its memory."""
    source: str
    bf16: bool = True
    """False: it has fp16 alone, which is its speed here."""


GPUS = (
    Gpu(name="T4", memory_bytes=16 * 10**9, flops_per_s=65e12, bytes_per_s=300e9, bf16=False,
        source="NVIDIA T4 Tensor Core GPU, data sheet"),
    Gpu(name="L4", memory_bytes=24 * 10**9, flops_per_s=121e12, bytes_per_s=300e9,
        source="NVIDIA L4 Tensor Core GPU, data sheet (its 242 TFLOP/s are with sparsity)"),
    Gpu(name="RTX 3090", memory_bytes=24 * 10**9, flops_per_s=71e12, bytes_per_s=936e9,
        source="NVIDIA Ampere GA102 GPU Architecture, appendix A"),
    Gpu(name="RTX 4090", memory_bytes=24 * 10**9, flops_per_s=165e12, bytes_per_s=1008e9,
        source="NVIDIA Ada GPU Architecture, appendix A"),
    Gpu(name="A100 40GB", memory_bytes=40 * 10**9, flops_per_s=312e12, bytes_per_s=1555e9,
        source="NVIDIA A100 Tensor Core GPU, data sheet"),
    Gpu(name="A100 80GB", memory_bytes=80 * 10**9, flops_per_s=312e12, bytes_per_s=2039e9,
        source="NVIDIA A100 Tensor Core GPU, data sheet (SXM)"),
    Gpu(name="H100", memory_bytes=80 * 10**9, flops_per_s=989e12, bytes_per_s=3350e9,
        source="NVIDIA H100 Tensor Core GPU, data sheet (SXM; its 1,979 TFLOP/s are with sparsity)"),
    Gpu(name="H200", memory_bytes=141 * 10**9, flops_per_s=989e12, bytes_per_s=4800e9,
        source="NVIDIA H200 Tensor Core GPU, data sheet (SXM; its 1,979 TFLOP/s are with sparsity)"),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class OnGpu:
    """What training a model takes on one GPU, computed."""

    gpu: Gpu
    training_memory_bytes: int
    fits: bool
    tokens_per_s: float
    by_calls: bool
    """The calls of kernels take longer than the arithmetic."""
    seconds_per_million_tokens: float
    seconds_compute_optimal: float
    written_tokens_per_s: float
    """At most, of one text: each token reads all weights in 16 bits once."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, those of the GPU among them."""
        values = asdict(self)
        return values.pop("gpu") | values


def on_gpus(config: GPTConfig, optim: OptimConfig) -> list[OnGpu]:
    """Training with the batch of `optim` on every GPU of the table, in 16 bits."""
    tokens = optim.batch_size * config.context_length
    flops = sum(flops_per_token(config).values())
    flops += (muon_flops(config, optim.muon_iterations) if optim.name == "muon" else 0) / tokens
    memory, weights = training_memory_on_gpu(config, optim), storage(config)["bf16"]
    optimal = compute_optimal(config).tokens
    calls = CALLS[config.architecture][optim.name] * (config.n_layers + 1) * LAUNCH_SECONDS
    found = []
    for gpu in GPUS:
        arithmetic = tokens * flops / (UTILISATION * gpu.flops_per_s)
        pace = tokens / max(arithmetic, calls)
        found.append(
            OnGpu(
                gpu=gpu, training_memory_bytes=memory, fits=memory <= USABLE * gpu.memory_bytes, tokens_per_s=pace,
                by_calls=calls > arithmetic, seconds_per_million_tokens=1e6 / pace,
                seconds_compute_optimal=optimal / pace, written_tokens_per_s=gpu.bytes_per_s / weights,
            )
        )  # fmt: skip
    return found
