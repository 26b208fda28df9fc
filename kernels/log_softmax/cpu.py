"""Log softmax and entropy on the CPU, in Numba: each exponential is taken once.

torch takes them twice and, for the entropy, writes a copy the size of the logits. Sums have an
order of their own: left to the compiler, code that had just been compiled and the same code read
from the cache summed differently, and a resumed run was not the uninterrupted one.
"""

import numba
import numpy as np

from kernels.cpu.compiling import helper, kernel, team_kernel
from kernels.cpu.numba_helpers import exp_nonpositive
from kernels.cpu.vector_softmax import largest

LANES = 32  # sums side by side, so that their order is written down and they still vectorise


@numba.njit(nogil=True, error_model="numpy", fastmath={"contract", "nsz"})
def _sum_exponentials(values, top, totals, weighted):
    """Add e^x and x·e^x, x below the top, of [V] values to the lanes.

    Indices instead of slices: one of those took longer than its 32 exponentials.
    """
    size = values.shape[0]
    for begin in range(0, size, LANES):
        for k in range(min(LANES, size - begin)):
            below = values[np.uint64(begin + k)] - top
            weight = exp_nonpositive(below)
            totals[k] += weight
            weighted[k] += weight * max(below, np.float32(-88.0))


@helper
def _joined(totals):
    """Sum of the lanes, in their order."""
    total = np.float32(0.0)
    for k in range(LANES):
        total += totals[k]
    return total


@helper
def _log_softmax(values, result):
    """Log softmax of one row [V]; returns the entropy."""
    size = values.shape[0]
    top = largest(values.reshape(1, size), 0, 0, size)
    totals, weighted = np.zeros(LANES, np.float32), np.zeros(LANES, np.float32)
    _sum_exponentials(values, top, totals, weighted)
    total, weight = _joined(totals), _joined(weighted)
    log_total = np.log(total)
    for i in range(size):
        result[i] = values[i] - top - log_total
    return log_total - weight / total


@team_kernel("void(float32[:, ::1], float32[:, ::1], float32[::1])")
def log_softmax_rows(logits, log_probabilities, entropy):
    """``log_softmax_and_entropy`` of [R, V] into the other two; −inf is a probability of 0."""
    for row in numba.prange(logits.shape[0]):
        entropy[row] = _log_softmax(logits[row], log_probabilities[row])


@kernel("void(float32[:, ::1], float32[:, ::1], float32[::1])")
def log_softmax_few_rows(logits, log_probabilities, entropy):
    """``log_softmax_rows`` on one thread: waking the others takes longer than a row."""
    for row in range(logits.shape[0]):
        entropy[row] = _log_softmax(logits[row], log_probabilities[row])


@numba.njit(nogil=True, error_model="numpy", fastmath={"contract", "nsz"})
def _add_divergence(probabilities, dense, given, totals):
    """Add p · (log p − log q) of [V] to the lanes; nothing where p is 0."""
    size = dense.shape[0]
    for begin in range(0, size, LANES):
        for k in range(min(LANES, size - begin)):
            at = np.uint64(begin + k)
            term = probabilities[at] * (dense[at] - given[at])
            totals[k] += term if probabilities[at] > 0 else np.float32(0.0)


@team_kernel("void(float32[:, ::1], float32[:, :, ::1], float32[:, ::1], float32[::1])")
def kl_rows(dense, given, kl, entropy):
    """``kl_to_dense`` of [B, V] and [B, G, V] into the other two."""
    sequences, group, size = given.shape
    nothing = np.zeros(size, np.float32)
    for job in numba.prange(sequences * (group + 1)):
        sequence, row = job // (group + 1), job % (group + 1)
        probabilities, totals = np.empty(size, np.float32), np.zeros(LANES, np.float32)
        for i in range(size):
            probabilities[i] = exp_nonpositive(min(dense[sequence, i], np.float32(0.0)))
        if row == group:
            _add_divergence(probabilities, dense[sequence], nothing, totals)
            entropy[sequence] = -_joined(totals)
        else:
            _add_divergence(probabilities, dense[sequence], given[sequence, row], totals)
            kl[sequence, row] = max(_joined(totals), np.float32(0.0))
