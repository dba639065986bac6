"""Passes of the model recorded once as CUDA graphs and replayed: one launch instead of hundreds.

A graph repeats the same kernels on the same addresses. So its input lies in a tensor that every replay fills anew, and
its output in one that the next replay overwrites. Untested: no such device was at hand; the runner around it is tested
with a stand-in that repeats its first call.
"""

from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor


class CudaGraphs:
    """One graph for each key; all share their memory, for only one runs at a time."""

    def __init__(self) -> None:
        self._recorded: dict[Hashable, tuple[torch.cuda.CUDAGraph, Tensor, Tensor]] = {}
        self._pool: Any = None

    def __call__(self, key: Hashable, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """function(x), valid until the next call. What `function` does must depend on `key` and `x` alone."""
        if key not in self._recorded:
            self._recorded[key] = self._record(function, x)
        graph, static_x, result = self._recorded[key]
        static_x.copy_(x)
        graph.replay()
        return result

    def _record(self, function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[torch.cuda.CUDAGraph, Tensor, Tensor]:
        with torch.cuda.device(x.device):
            static_x = x.clone()
            # Kernels that prepare themselves at their first call must have done so; on a stream of their own, as
            # PyTorch asks. The pass is repeatable: it writes the same keys to the same places.
            beside = torch.cuda.Stream()
            beside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(beside):
                for _ in range(2):
                    function(static_x)
            torch.cuda.current_stream().wait_stream(beside)

            graph = torch.cuda.CUDAGraph()
            # Only this thread's calls are recorded: others may use the device meanwhile.
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                result = function(static_x)
            self._pool = self._pool or graph.pool()
        return graph, static_x, result
