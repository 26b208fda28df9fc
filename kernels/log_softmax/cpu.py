"""Log softmax and entropy on the CPU, in Numba: each exponential is taken once.

torch takes them twice and, for the entropy, writes a copy the size of the logits: 64 rows of
49,152 words take 12.4 ms on two cores, here 1.9.
"""

from __future__ import annotations

import numba
import numpy as np

from kernels.numba_helpers import FAST_SUMS, exp_nonpositive

__all__ = ["log_softmax_rows"]


@numba.njit(
    "void(float32[:, ::1], float32[:, ::1], float32[::1])",
    parallel=True,
    nogil=True,
    cache=True,
    error_model="numpy",
    fastmath=FAST_SUMS,
)
def log_softmax_rows(logits, log_probabilities, entropy):
    """``log_softmax_and_entropy`` of [R, V] into the other two; −inf is a probability of 0."""
    size = logits.shape[1]
    for row in numba.prange(logits.shape[0]):
        values, result = logits[row], log_probabilities[row]
        top = np.float32(-np.inf)
        for i in range(size):
            top = max(top, values[i])
        total, weighted = np.float32(0.0), np.float32(0.0)
        for i in range(size):
            below = values[i] - top
            weight = exp_nonpositive(below)
            total += weight
            weighted += weight * max(below, np.float32(-88.0))
        log_total = np.log(total)
        for i in range(size):
            result[i] = values[i] - top - log_total
        entropy[row] = log_total - weighted / total
