"""Page scores, choice and spread of one row and head, for the attention of a few rows; in Numba.

The same choice as ``page_attention/reference.py``: exactly k pages, ties to the lowest.
"""

from __future__ import annotations

import numpy as np

from kernels.cpu.compiling import helper
from kernels.cpu.numba_helpers import (
    copy_rows,
    count_reaching,
    kth_largest,
    order_key,
    outside_best,
)
from kernels.cpu.vector_octets import ROWS, dot_row_pairs, prefetch_rows
from kernels.cpu.vector_softmax import largest, weigh

_AHEAD = 32  # pages whose bounds are asked for beforehand


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
def ask_for_bounds(page_max, page_min, stretch):
    """Ask for the bounds of a stretch's first pages to be brought into the cache; arguments as
    of ``score_pages``."""
    line, num_pages = stretch
    for page in range(0, min(num_pages, _AHEAD), ROWS):
        prefetch_rows(page_max, line + page)
        prefetch_rows(page_min, line + page)


@helper
def score_pages(signed, page_max, page_min, stretch, following, scores, few):
    """Quest's bounds of consecutive pages.

    Args:
        signed: two [H, D] float32, the positive and the negative part of the heads' queries.
        page_max, page_min: [Y, D] float32, or bfloat16 as uint16 bit patterns.
        stretch: line of the first page, and how many there are; the first ones were asked for.
        following: the same of the pages that are scored next, to be asked for.
        scores: [H, P] float32, overwritten.
        few: [H, 8] float32, overwritten.
    """
    line, num_pages = stretch
    bounds, last = (page_max, page_min), max(num_pages - _AHEAD, 0)
    for page in range(0, num_pages, ROWS):
        if page < last:
            prefetch_rows(page_max, line + page + _AHEAD)
            prefetch_rows(page_min, line + page + _AHEAD)
        elif page < last + ROWS:
            ask_for_bounds(page_max, page_min, following)
        count = min(num_pages - page, ROWS)
        if count == ROWS:
            dot_row_pairs(bounds, line + page, count, signed, page, scores)
        else:  # what lies behind may be another thread's
            dot_row_pairs(bounds, line + page, count, signed, 0, few)
            copy_rows(few[:, :count], scores[:, page : page + count])


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


@helper
def mass_outside(scores, first_seen, total, page_size, share):
    """``page_mass_outside`` of one row and head; ``scores`` [P] are changed.

    Args:
        scores: of the pages that hold tokens ``first_seen`` to ``total − 1``.
    """
    num_pages = scores.shape[0]
    first = first_seen // page_size
    # A page weighs as many times as it has tokens; all but the two ends have as many.
    for page in (0, num_pages - 1):
        begin = max(first_seen, (first + page) * page_size)
        tokens = min(total, (first + page + 1) * page_size) - begin
        if tokens != page_size:
            scores[page] += np.float32(np.log(np.float32(tokens) / np.float32(page_size)))
        if num_pages == 1:
            break
    lines = scores.reshape(1, num_pages)
    mass = weigh(lines, 0, 0, num_pages, largest(lines, 0, 0, num_pages))
    return outside_best(scores, share) / mass
