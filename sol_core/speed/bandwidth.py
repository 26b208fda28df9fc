"""Speed at which this machine reads memory: the floor of single-stream decoding."""

from __future__ import annotations

import time

import torch

_MEGABYTES = 512  # far beyond any cache
_REPEATS = 7


def measure_read_bandwidth() -> float:
    """Best of several sums over a large array, all threads, in GB/s (1e9 bytes)."""
    array = torch.ones(_MEGABYTES * 2**20 // 4)
    best = 0.0
    for _ in range(_REPEATS):
        start = time.perf_counter()
        array.sum()
        best = max(best, array.nbytes / (time.perf_counter() - start))
    return best / 1e9
