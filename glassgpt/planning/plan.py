"""One answer to "what is this model and what does it cost?", from its config alone."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from glassgpt.config import GPTConfig, OptimConfig, RunConfig, preset
from glassgpt.planning import flops, memory, parameters
from glassgpt.planning.gpus import UTILISATION, OnGpu, on_gpus
from glassgpt.planning.optimal import ComputeOptimal, compute_optimal


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a config costs. Bytes are bytes; a megabyte of the chapter is 2^20 of them."""

    parameters: dict[str, int]
    """By component."""
    bytes: dict[str, int]
    """Of the weights, by precision."""
    training_memory: dict[str, int]
    """By part, as far as it is there at the peak; `total` is the peak, which is their sum."""
    checkpoint_bytes: int
    cache_bytes_per_token: int
    flops_per_token: dict[str, int]
    """Forward and backward, at the full context."""
    compute_optimal: ComputeOptimal
    gpus: list[OnGpu]
    """Training on GPUs, computed from their data sheets."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as `glassgpt plan --json` prints them."""
        parts = {part: n for part, n in self.training_memory.items() if part != "total"}
        return {
            "parameters": {"total": sum(self.parameters.values()), "by_component": self.parameters},
            "bytes": self.bytes,
            "training_memory_bytes": self.training_memory["total"],
            "training_memory_by_part": parts,
            "checkpoint_bytes": self.checkpoint_bytes,
            "cache_bytes_per_token": self.cache_bytes_per_token,
            "flops_per_token": self.flops_per_token,
            "compute_optimal": asdict(self.compute_optimal),
            "gpu_utilisation": UTILISATION,
            "gpus": [found.to_dict() for found in self.gpus],
        }


def plan(
    config: GPTConfig | Mapping[str, Any] | str, optim: OptimConfig | None = None, run: RunConfig | None = None
) -> Plan:
    """What `config`, also as a dictionary or the name of a preset, is and costs.

    Training memory is for the batch of `optim` (None: its defaults) computed as `run` says (None: in fp32 by PyTorch).
    Raises InputError for a preset that there is not, and for a dictionary that is no config.
    """
    if not isinstance(config, GPTConfig):
        config = GPTConfig.from_dict(preset(config) if isinstance(config, str) else config)
    optim = optim or OptimConfig()
    needed = memory.training_memory(config, optim, run)
    return Plan(
        parameters=parameters.parameters(config),
        bytes=memory.storage(config),
        training_memory=memory.parts_at_peak(needed) | {"total": needed["total"]},
        checkpoint_bytes=memory.checkpoint_bytes(config, optim=optim),
        cache_bytes_per_token=memory.cache_bytes_per_token(config),
        flops_per_token=flops.flops_per_token(config),
        compute_optimal=compute_optimal(config),
        gpus=on_gpus(config, optim),
    )
