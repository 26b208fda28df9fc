"""The pages that a row sees, and the best of them by their scores; in Numba.

The same choice as ``page_attention/reference.py``: exactly k pages, ties to the lowest.
"""

from __future__ import annotations

import numpy as np

from kernels.cpu.compiling import helper
from kernels.cpu.numba_helpers import count_reaching, kth_largest, order_key


@helper
def seen_pages(shared_tokens, own_tokens, first_seen, page_size):
    """The pages [first, last) that a row sees, this step's token included."""
    total = shared_tokens + own_tokens + 1
    return first_seen // page_size, (total + page_size - 1) // page_size


@helper
def pages_of_part(seen, part, parts, shared_pages):
    """One of so many parts of the pages [first, last): begin, middle and end; those before the
    middle lie in the shared block, the others in the row's own."""
    first, last = seen
    begin = first + (last - first) * part // parts
    end = first + (last - first) * (part + 1) // parts
    return begin, min(max(shared_pages, begin), end), end


@helper
def choose_pages(scores, kept, chosen):
    """The ``kept`` best pages, ties to the lowest.

    Args:
        scores: [P] float32.
        kept: in [1, P].
        chosen: [P] uint8, overwritten: 1 for a page that is chosen, else 0.
    """
    keys = np.empty(scores.shape[0], np.uint32)
    bits = scores.view(np.uint32)
    for page in range(scores.shape[0]):
        keys[page] = order_key(bits[page])
    threshold, above = kth_largest(keys, kept)
    for page in range(scores.shape[0]):
        chosen[page] = keys[page] >= threshold
    if count_reaching(keys, threshold) == kept:  # nobody ties for the last place
        return
    room = kept - above
    for page in range(scores.shape[0]):
        if keys[page] == threshold:
            chosen[page] = room > 0
            room -= 1
