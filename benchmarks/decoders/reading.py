"""Not a contender: how fast this machine reads memory, to say which share of it a contender uses."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np


class Reading:
    """Each thread reads its part of a buffer in order, as a dot product with itself does it."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads)

    def bytes_per_second(self, n_bytes: int, seconds: float = 0.3) -> float:
        """The median of the passes over a buffer of `n_bytes` that fit into `seconds`."""
        parts = np.array_split(np.ones(n_bytes // 4, np.float32), self._threads)
        passes = []
        until = time.perf_counter() + seconds
        while len(passes) < 3 or time.perf_counter() < until:
            began = time.perf_counter()
            list(self._pool.map(lambda part: np.dot(part, part), parts))
            passes.append(time.perf_counter() - began)
        return n_bytes / sorted(passes)[len(passes) // 2]
