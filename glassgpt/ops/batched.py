"""Products of whole stacks of matrices, (n, p, q) times (n, q, s), and the precision in which they are fastest.

PyTorch hands fp32 stacks on the CPU to MKL, which on AMD leaves AVX-512 unused; one matrix at a time, oneDNN does
them at 260 to 400 GFLOP/s instead of 180. Stacks of bf16 go to oneDNN as they are, at about 750 GFLOP/s where the
processor multiplies bf16 (AVX512-BF16, AMX), and at a crawl where it does not: so the precision is measured.
"""

import time

import torch
from torch import Tensor

from glassgpt.ops.linear import has_onednn

_PROBED = (8, 128, 256)
"""Stack of the probe, typical of a small model's matrices."""
_WORTH_IT = 0.8
"""bf16 has to take less than this share of fp32's time to be worth its rounding."""


def batched_product(a: Tensor, b: Tensor, out: Tensor) -> Tensor:
    """a @ b into `out`, which is returned."""
    return add_batched_product(out, a, b, beta=0.0, alpha=1.0, out=out)


def add_batched_product(c: Tensor, a: Tensor, b: Tensor, *, beta: float, alpha: float, out: Tensor) -> Tensor:
    """beta * c + alpha * (a @ b) into `out`, which is returned; `c` is not read where beta is 0."""
    if a.dtype != torch.float32 or a.device.type != "cpu" or not has_onednn():
        return torch.baddbmm(c, a, b, beta=beta, alpha=alpha, out=out)
    for c_i, a_i, b_i, out_i in zip(c, a, b, out, strict=True):
        product = torch.ops.mkldnn._linear_pointwise(a_i, b_i.T, None, "none", [], "")
        if beta:
            torch.mul(c_i, beta, out=out_i).add_(product, alpha=alpha)
        else:
            torch.mul(product, alpha, out=out_i)
    return out


def fastest_matmul_dtype(device: torch.device | str) -> torch.dtype:
    """bf16 where this device multiplies clearly faster in it than in fp32, else fp32. Takes about 10 ms.

    On the CPU one thread is measured by the time that it works, which other work on the machine hardly changes: two
    runs with equal settings shall find the same.
    """
    on_cpu, threads = torch.device(device).type == "cpu", torch.get_num_threads()
    exact = time.get_clock_info("thread_time").resolution < 1e-4  # not on Windows
    clock = time.thread_time if on_cpu and exact else time.perf_counter
    seconds: dict[torch.dtype, float] = {}
    if on_cpu:
        torch.set_num_threads(1)
    for dtype in (torch.float32, torch.bfloat16):
        a = torch.ones(_PROBED, dtype=dtype, device=device)
        out = torch.empty(_PROBED[0], _PROBED[1], _PROBED[1], dtype=dtype, device=device)
        times = []
        for _ in range(6):  # the first one prepares the kernel
            began = clock()
            float(batched_product(a, a.mT, out)[-1, -1, -1])  # to read it is to wait for it
            times.append(clock() - began)
        seconds[dtype] = min(times)
    torch.set_num_threads(threads)
    return torch.bfloat16 if seconds[torch.bfloat16] < _WORTH_IT * seconds[torch.float32] else torch.float32
