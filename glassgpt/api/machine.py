"""What this machine computes a run with: device, arithmetic, who computes the step, threads."""

import dataclasses

import torch

from glassgpt.api.code import Code
from glassgpt.api.cores import available_cores
from glassgpt.config import Device, GPTConfig, Kernel, OptimConfig, RunConfig
from glassgpt.native.compiled import has_bf16, tier
from glassgpt.native.trainer import suits
from glassgpt.ops.batched import fastest_matmul_dtype
from glassgpt.ops.linear import has_onednn
from glassgpt.planning.parameters import total_parameters
from glassgpt.settings import InputError
from glassgpt.training.machine_facts import machine_facts

NATIVE_PARAMETERS = 30_000_000
"""Up to here the native step is taken; larger matrices keep PyTorch's products busy as it is."""
BF16_WIDTH = 128
"""embedding_dim from which PyTorch's step gains by bf16 on a CPU that has it: a third there, two thirds from 256 on."""


def usable_device(wanted: Device) -> Device:
    """`wanted`, or the fastest kind there is for "auto". Raises InputError for one that is not there."""
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        return "cuda" if there["cuda"] else "mps" if there["mps"] else "cpu"
    if not there.get(wanted, False):
        found = ", ".join(name for name, is_there in there.items() if is_there)
        raise InputError(f"device is {wanted}, but PyTorch finds no {wanted.upper()} device here: take {found}")
    return wanted


def on_this_machine(run: RunConfig, model: GPTConfig, code: Code) -> RunConfig:
    """Every "auto" replaced by what it is for this model on this machine."""
    device = usable_device(run.device)
    if run.recompute and run.kernel == "native":
        raise InputError("run.recompute is true, but the native step keeps few activations: give one of the two")
    kernel = _kernel("torch" if run.recompute else run.kernel, model, code, device)
    dtype = run.dtype if run.dtype != "auto" else ("bf16" if _bf16_pays(model, device, kernel) else "fp32")
    on_cpu = device == "cpu" and (dtype == "fp32" or kernel == "native")
    linear = run.linear if run.linear != "auto" else ("onednn" if on_cpu and has_onednn() else "torch")
    threads = run.threads or available_cores()
    return dataclasses.replace(run, device=device, dtype=dtype, kernel=kernel, linear=linear, threads=threads)


def computes_with(device: Device) -> str:
    """What the last bits of a computation depend on besides its settings and threads: PyTorch and the processor."""
    processor = torch.cuda.get_device_name() if device == "cuda" else machine_facts().processor
    return f"PyTorch {torch.__version__} on {processor}"


def with_matmul_dtype(optim: OptimConfig, device: str) -> OptimConfig:
    """Muon's arithmetic settled: what this device multiplies faster."""
    if optim.name != "muon" or optim.muon_dtype != "auto":
        return optim
    fastest = "bf16" if fastest_matmul_dtype(device) is torch.bfloat16 else "fp32"
    return dataclasses.replace(optim, muon_dtype=fastest)


def _kernel(wanted: Kernel, model: GPTConfig, code: Code, device: str) -> Kernel:
    """Who computes the training step. Raises InputError where the native step is asked for and cannot."""
    usable = device == "cpu" and tier() is not None and suits(model) and code.make_model is None
    if wanted == "native" and not usable:
        why = (
            "it knows the built-in model alone and this one is your own"
            if code.make_model is not None
            else f"it runs on the CPU and the device is {device}"
            if device != "cpu"
            else "it was not compiled when GlassGPT was installed (that takes a C++ compiler)"
            if tier() is None
            else "it needs even embedding_dim, head_dim and feed_forward_dim, and no portable dropout"
        )
        raise InputError(f"run.kernel is native, but {why}: give --run.kernel torch, and PyTorch computes the step")
    if wanted != "auto":
        return wanted
    return "native" if usable and total_parameters(model) <= NATIVE_PARAMETERS else "torch"


def _bf16_pays(model: GPTConfig, device: str, kernel: Kernel) -> bool:
    """Whether bf16 is the faster arithmetic here."""
    if device != "cpu" or kernel == "native":
        return device == "cuda" or (kernel == "native" and has_bf16())
    return model.embedding_dim >= BF16_WIDTH and fastest_matmul_dtype(device) is torch.bfloat16
