"""The two passes of a softmax over a stretch of one row, in Numba; both in vectors."""

from __future__ import annotations

import numpy as np

from kernels.cpu.compiling import fast_helper, helper
from kernels.cpu.numba_helpers import exp_nonpositive, in_order
from kernels.cpu.vector_softmax import LEAST


@helper
def largest(scores, head, begin, end):
    """Of scores [H, n] of one head, at least ``LEAST``. Positive NaN is above all and ``weigh``
    hands it on.

    Compared as integers in their order: LLVM makes no vectors of the maximum of floats that Numba
    writes, and took up to 17 times as long.
    """
    top = in_order(np.float32(LEAST).view(np.int32))
    for i in range(np.uint64(begin), np.uint64(end)):
        top = max(top, in_order(np.float32(scores[head, i]).view(np.int32)))
    return np.int32(in_order(top)).view(np.float32)


@fast_helper
def weigh(scores, head, begin, end, top):
    """e^(score − top) of one head's scores [H, n], in place; returns the sum.

    Indices instead of slices: a slice counts references, which took longer than the sum.
    Unsigned, for Numba counts negative ones from the end, which no vector can.
    """
    total = np.float32(0.0)
    for i in range(np.uint64(begin), np.uint64(end)):
        weight = exp_nonpositive(scores[head, i] - top)
        scores[head, i] = weight
        total += weight
    return total
