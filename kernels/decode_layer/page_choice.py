"""Page scores, choice and spread of one row and head, for the attention of a few rows; in Numba.

The same choice as ``page_attention/reference.py``: exactly k pages, ties to the lowest.
"""

from __future__ import annotations

import numba
import numpy as np

from kernels.numba_helpers import FAST_SUMS, exp_nonpositive, kth_largest, outside_best
from kernels.vector_rows import ROWS_AT_ONCE, dot_rows

__all__ = ["choose_pages", "mass_outside", "score_pages", "softmax"]

_helper = numba.njit(nogil=True, error_model="numpy")


@_helper
def score_pages(query, page_min, page_max, line, scores):
    """Quest's bounds of consecutive pages, the first at ``line``, into ``scores`` [P].

    Args:
        query: [D] float32.
        page_min, page_max: [Y, D] float32, or bfloat16 as uint16 bit patterns.
    """
    up, down = np.empty_like(query), np.empty_like(query)
    for d in range(query.shape[0]):
        up[d], down[d] = max(query[d], np.float32(0.0)), min(query[d], np.float32(0.0))
    last = scores.shape[0] - 1
    lines = np.empty(ROWS_AT_ONCE, np.int64)
    high, low = np.empty(ROWS_AT_ONCE, np.float32), np.empty(ROWS_AT_ONCE, np.float32)
    for page in range(0, scores.shape[0], ROWS_AT_ONCE):
        for k in range(ROWS_AT_ONCE):
            lines[k] = line + min(page + k, last)
        dot_rows(page_max, lines, 0, up, high)
        dot_rows(page_min, lines, 0, down, low)
        for k in range(min(ROWS_AT_ONCE, scores.shape[0] - page)):
            scores[page + k] = high[k] + low[k]


@_helper
def choose_pages(scores, kept, chosen):
    """Mark the ``kept`` best pages, ties to the lowest.

    Args:
        scores: [P] float32.
        kept: in [1, P].
        chosen: [P] uint8, overwritten.
    """
    keys = np.empty(scores.shape[0], np.uint32)
    bits = scores.view(np.uint32)
    for page in range(scores.shape[0]):
        value = bits[page]
        if value == np.uint32(0x80000000):
            value = np.uint32(0)  # −0 ties with +0
        # Unsigned integers in the order of the scores.
        keys[page] = ~value if value >> np.uint32(31) else value | np.uint32(0x80000000)
    threshold, above = kth_largest(keys, kept)
    room = kept - above
    for page in range(scores.shape[0]):
        tied = keys[page] == threshold and room > 0
        room -= tied
        chosen[page] = np.uint8(tied or keys[page] > threshold)


@numba.njit(nogil=True, error_model="numpy", fastmath=FAST_SUMS)
def softmax(scores):
    """Of [n], in place, not yet divided; returns the largest score and the sum."""
    top = np.float32(-np.inf)
    for i in range(scores.shape[0]):
        top = max(top, scores[i])
    total = np.float32(0.0)
    for i in range(scores.shape[0]):
        weight = exp_nonpositive(scores[i] - top)
        scores[i] = weight
        total += weight
    return top, total


@_helper
def mass_outside(scores, first_seen, total, page_size, share):
    """``page_mass_outside`` of one row and head; ``scores`` [P] are changed.

    Args:
        scores: of the pages that hold tokens ``first_seen`` to ``total − 1``.
    """
    num_pages = scores.shape[0]
    first = first_seen // page_size
    whole = np.float32(np.log(np.float32(page_size)))
    for page in range(num_pages):
        begin = max(first_seen, (first + page) * page_size)
        tokens = min(total, (first + page + 1) * page_size) - begin
        scores[page] += whole if tokens == page_size else np.float32(np.log(np.float32(tokens)))
    _, mass = softmax(scores)
    return outside_best(scores, share) / mass
