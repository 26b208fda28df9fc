"""Page-sparse attention of many rows on the CPU, in Numba: unselected pages are not read.

The same selection as ``reference.py`` (exactly k pages, ties to the lowest), with sums in
another order. A task is one row and KV head; nothing the size of the score matrix is
written, and rows of one text come one after another, so that their shared pages stay in
the core's cache. The helpers take plain arrays: each read of a tuple's field inside the
loop counts a reference, which was a third of the time.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np

from kernels.cpu.compiling import fast_helper, helper, team_kernel
from kernels.cpu.numba_helpers import kth_largest, order_key, outside_best, widen
from kernels.page_attention.cpu_group import attend_group, softmax_in_place


class CpuBlock(NamedTuple):
    """One block of keys; float32, or bfloat16 as uint16 bit patterns.

    Attributes:
        keys, values: [X, D]; token t of sequence n and KV head k is line
            ``n · row_stride + k · head_stride + t``.
        low, high: [Y, …], likewise with the ``page_…`` strides: a line for each page's minimum
            and maximum keys, or for each octet's codes and scales (``cpu_mass.py``).
        tokens: how many of them count.
        sources: [M] int64, the sequence that each ``rows_per_source`` rows read.
    """

    keys: Any
    values: Any
    low: Any
    high: Any
    row_stride: int
    head_stride: int
    page_row_stride: int
    page_head_stride: int
    tokens: int
    sources: Any
    rows_per_source: int


class CpuPlan(NamedTuple):
    """``AttentionPlan`` as arrays; a flag says whether tokens are masked at all."""

    page_size: int
    num_kv_heads: int
    token_masked: bool
    valid_tokens: Any  # [R, S] bool, or [1, 1]
    valid_pages: Any  # [R, P] bool
    pages_kept: Any  # [R] int64, P or more for all
    floors: Any  # [R] float32, or [0] where none count
    tokens_per_page: Any  # [R, P] int64 where the mass outside is asked for, or [1, 1]
    best_share: float  # of the pages; 0 when the mass outside is not asked for


@fast_helper
def _score_pages(above, below, page_min, page_max, line, scores, begin, end):
    """Quest's bounds into scores[begin : end]; the first page's bounds are at ``line``.

    Args:
        above, below: [D], the query's numbers above 0 and below 0; 0 elsewhere.
    """
    for page in range(begin, end):
        total = np.float32(0.0)
        for d in range(above.shape[0]):
            total += above[d] * widen(page_max[line, d])
            total += below[d] * widen(page_min[line, d])
        scores[page] = total
        line += 1


@helper
def list_valid(valid_pages, row, chosen):
    """All valid pages, ascending; returns how many."""
    count = 0
    for page in range(valid_pages.shape[1]):
        chosen[count] = page
        count += valid_pages[row, page]
    return count


@helper
def list_best(scores, valid_pages, row, kept, keys, chosen):
    """The ``kept`` best valid pages, ascending, ties to the lowest; returns how many."""
    bits = scores.view(np.uint32)
    for page in range(scores.shape[0]):
        # 0, below all, for invalid pages.
        keys[page] = order_key(bits[page]) if valid_pages[row, page] else np.uint32(0)
    threshold, above = kth_largest(keys, kept)
    room = kept - above
    count = 0
    for page in range(scores.shape[0]):
        tied = keys[page] == threshold and room > 0
        room -= tied
        chosen[count] = page
        count += tied or keys[page] > threshold
    return count


@helper
def _mass_outside(scores, valid_pages, tokens_per_page, log_tokens, row, share):
    """``page_mass_outside`` of one row and head; log_tokens[n] is the logarithm of n."""
    weights = np.empty(scores.shape[0], np.float32)
    num_valid = 0
    for page in range(scores.shape[0]):
        if valid_pages[row, page]:
            weights[num_valid] = scores[page] + log_tokens[tokens_per_page[row, page]]
            num_valid += 1
    total = softmax_in_place(weights, num_valid)
    return outside_best(weights[:num_valid], share) / total


@team_kernel
def attend_rows(query, first, second, plan, mixed, read, outside):
    """``attend`` of every row and KV head.

    Args:
        query: [R, H, D] float32, contiguous.
        first, second: CpuBlock; the first may be empty. Its tokens are whole pages.
        plan: CpuPlan.
        mixed: [R, H, D] float32, zero; the result is added.
        read: [R, Hkv] int64, overwritten with how many tokens are.
        outside: [R, H] float32, overwritten if ``plan.best_share`` is above 0.
    """
    keys_1, values_1, low_1, high_1 = first.keys, first.values, first.low, first.high
    keys_2, values_2, low_2, high_2 = second.keys, second.values, second.low, second.high
    sources_1, sources_2 = first.sources, second.sources
    tokens_1, tokens_2 = first.tokens, second.tokens
    valid_tokens, valid_pages = plan.valid_tokens, plan.valid_pages
    pages_kept, tokens_per_page = plan.pages_kept, plan.tokens_per_page
    masked, page_size, share = plan.token_masked, plan.page_size, plan.best_share
    num_kv_heads, num_pages = plan.num_kv_heads, valid_pages.shape[1]
    per_group = query.shape[1] // num_kv_heads
    pages_1 = (tokens_1 + page_size - 1) // page_size
    log_tokens = np.log(np.arange(page_size + 1).astype(np.float32))
    in_group = first.rows_per_source if tokens_1 > 0 else 1
    for task in numba.prange(query.shape[0] * num_kv_heads):
        # Rows that read the same keys come one after another: those keys stay in the cache.
        group, rest = task // (in_group * num_kv_heads), task % (in_group * num_kv_heads)
        row, head = group * in_group + rest % in_group, rest // in_group
        source_1 = sources_1[row // first.rows_per_source]
        source_2 = sources_2[row // second.rows_per_source]
        base_1 = source_1 * first.row_stride + head * first.head_stride
        base_2 = source_2 * second.row_stride + head * second.head_stride
        line_1 = source_1 * first.page_row_stride + head * first.page_head_stride
        line_2 = source_2 * second.page_row_stride + head * second.page_head_stride
        page_scores = np.empty(num_pages, np.float32)
        order = np.empty(num_pages, np.uint32)
        above, below = np.empty(query.shape[2], np.float32), np.empty(query.shape[2], np.float32)
        chosen = np.empty(num_pages + 1, np.int64)
        who = np.zeros(num_pages, np.int64)
        heads = slice(head * per_group, (head + 1) * per_group)
        for h in range(head * per_group, (head + 1) * per_group):
            vector = query[row, h]
            count = list_valid(valid_pages, row, chosen)
            if pages_kept[row] < count or share > 0:
                for d in range(vector.shape[0]):
                    above[d] = max(vector[d], np.float32(0.0))
                    below[d] = min(vector[d], np.float32(0.0))
                _score_pages(above, below, low_1, high_1, line_1, page_scores, 0, pages_1)
                _score_pages(above, below, low_2, high_2, line_2, page_scores, pages_1, num_pages)
            if share > 0:
                outside[row, h] = _mass_outside(
                    page_scores, valid_pages, tokens_per_page, log_tokens, row, share
                )
            if pages_kept[row] < count:
                kept = pages_kept[row]
                count = list_best(page_scores, valid_pages, row, kept, order, chosen)
            for i in range(count):
                who[chosen[i]] |= np.int64(1) << (h - head * per_group)
        blocks = (keys_1, base_1, tokens_1), (keys_2, base_2, tokens_2)
        hidden, values = (masked, valid_tokens, row), (values_1, values_2)
        vectors, out = query[row, heads], mixed[row, heads]
        read[row, head] = attend_group(vectors, blocks, values, who, hidden, page_size, out)
