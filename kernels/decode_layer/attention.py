"""The attention half of a layer for a few rows, from norm to residual; in Numba.

Norm, projection, rotation, cache write, page choice, attention over the chosen pages,
output projection. A page that no head of a group chose is not read. The tokens of each
row and key-value head are cut into parts that run side by side and are merged
(FlashDecoding), because one row of a small model has fewer heads than it needs tasks.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np

from kernels.decode_layer.page_choice import choose_pages, mass_outside, score_pages, softmax
from kernels.decode_layer.products import product
from kernels.numba_helpers import exp_nonpositive, narrow, widen
from kernels.numba_rows import norm_row
from kernels.vector_rows import ROWS_AT_ONCE, add_rows, dot_rows, prefetch_rows

__all__ = ["AttentionWeights", "CacheBlock", "StepRows", "attention_rows"]

_helper = numba.njit(nogil=True, error_model="numpy")
# Tokens per part: its keys stay in the first cache while a group's heads read them. Not
# the number of threads decides, so that results do not depend on it.
_PART_TOKENS = 128
_AHEAD = 32  # tokens
_MOST_PARTS = 32  # about; merging them takes one thread's time


class AttentionWeights(NamedTuple):
    """One layer's; matrices are float32, or bfloat16 as uint16 bit patterns.

    Attributes:
        norm: [C] float32.
        query_key_value: [(H + 2·Hkv)·D, C] if ``out_major``, else transposed; bias
            float32, empty for none.
        query_norm, key_norm: [D] float32, empty for none.
        output: [C, H·D] if ``out_major``, else transposed; bias likewise.
        output_norm: [C] float32, empty for none.
    """

    norm: Any
    query_key_value: Any
    query_key_value_bias: Any
    query_norm: Any
    key_norm: Any
    output: Any
    output_bias: Any
    output_norm: Any
    out_major: bool
    epsilon: Any


class CacheBlock(NamedTuple):
    """Keys and values of sequences side by side; token t of (sequence, head) pair n is
    line ``n · capacity + t``, its page's bounds are line ``n · page_capacity + t // page size``.

    Attributes:
        keys, values: [X, D] float32, or bfloat16 as uint16 bit patterns.
        page_min, page_max: [Y, D] of the same type.
    """

    keys: Any
    values: Any
    page_min: Any
    page_max: Any
    capacity: int
    page_capacity: int


class StepRows(NamedTuple):
    """What each of R rows may read at this step; int64 arrays [R].

    Attributes:
        sources: sequence of the shared block that the row continues.
        shared_tokens: how many of its tokens, whole pages; 0 without a shared block.
        own_tokens: in the row's own memory, before this step's.
        first_seen: first token, counted through both blocks, that attention sees.
        pages_kept: pages that each head reads.
        page_size: tokens per page.
        num_kv_heads: Hkv.
        scale: float32 factor on query·key.
        extend_bounds: take the new key into its page's bounds.
        best_share: of the pages, for the mass outside; 0 when it is not asked for.
        tasks: parts that each product is cut into; the result does not depend on it.
    """

    sources: Any
    shared_tokens: Any
    own_tokens: Any
    first_seen: Any
    pages_kept: Any
    page_size: int
    num_kv_heads: int
    scale: Any
    extend_bounds: bool
    best_share: float
    tasks: int


@_helper
def _rotate(head, cosine, sine, scale):
    """Rotate one head [D] in place and scale it."""
    half = head.shape[0] // 2
    for d in range(half):
        first, second = head[d], head[half + d]
        head[d] = (first * cosine[d] - second * sine[d]) * scale
        head[half + d] = (second * cosine[half + d] + first * sine[half + d]) * scale


@_helper
def _finish_heads(heads, weights, angles, num_kv_heads, scale):
    """Bias, norms, rotation and scale of [R, H + 2·Hkv, D], in place."""
    num_rows, num_heads, size = heads.shape
    first_key, first_value = num_heads - 2 * num_kv_heads, num_heads - num_kv_heads
    bias = weights.query_key_value_bias
    for row in range(num_rows):
        for head in range(num_heads):
            line = heads[row, head]
            if bias.shape[0] > 0:
                for d in range(size):
                    line[d] += bias[head * size + d]
            if head < first_value:
                is_query = head < first_key
                if weights.query_norm.shape[0] > 0:
                    norm = weights.query_norm if is_query else weights.key_norm
                    norm_row(line, norm, weights.epsilon, line)
                factor = scale if is_query else np.float32(1.0)
                _rotate(line, angles[0, row], angles[1, row], factor)


@_helper
def _write(keys_values, own, own_tokens, page_size, extend_bounds):
    """Store each row's new key and value [R, 2·Hkv, D], and take the key into the bounds."""
    num_rows, both, size = keys_values.shape
    num_kv_heads = both // 2
    for row in range(num_rows):
        slot = own_tokens[row]
        for head in range(num_kv_heads):
            pair = row * num_kv_heads + head
            line = pair * own.capacity + slot
            for d in range(size):
                own.keys[line, d] = narrow(keys_values[row, head, d], own.keys)
                own.values[line, d] = narrow(keys_values[row, num_kv_heads + head, d], own.values)
            if extend_bounds:
                page = pair * own.page_capacity + slot // page_size
                for d in range(size):
                    key = own.keys[line, d]
                    if widen(key) < widen(own.page_min[page, d]):
                        own.page_min[page, d] = key
                    if widen(key) > widen(own.page_max[page, d]):
                        own.page_max[page, d] = key


@_helper
def _choose(query, bounds, lines, row_info, chosen):
    """Score one head's pages, choose among them; returns the mass outside the best.

    Args:
        bounds: shared minima and maxima, own minima and maxima.
        lines: bounds of the row's page 0 in the shared block, and in its own.
        row_info: shared tokens, first token seen, end of the tokens, pages kept, page
            size, share of the best pages.
        chosen: [P] uint8, from the first page seen; overwritten unless all are kept.
    """
    shared_tokens, first_seen, total, kept, page_size, share = row_info
    first, end = first_seen // page_size, (total + page_size - 1) // page_size
    middle = min(max(shared_tokens // page_size, first), end)
    scores = np.empty(end - first, np.float32)
    if middle > first:
        score_pages(query, bounds[0], bounds[1], lines[0] + first, scores[: middle - first])
    if end > middle:
        own_first = middle - shared_tokens // page_size
        score_pages(query, bounds[2], bounds[3], lines[1] + own_first, scores[middle - first :])
    if kept < end - first:
        choose_pages(scores, kept, chosen[: end - first])
    if share > 0:
        return mass_outside(scores, first_seen, total, page_size, share)
    return np.float32(0.0)


@_helper
def _parts_for(num_pages, page_size):
    """Into how many parts a row's pages are cut."""
    wanted = (num_pages * page_size + _PART_TOKENS - 1) // _PART_TOKENS
    return max(1, min(wanted, _MOST_PARTS))


@_helper
def _list_lines(chosen, pages, tokens, base, page_size, lines):
    """Lines of the visible tokens of a head's chosen pages; returns how many.

    Args:
        chosen: [P] uint8 from page ``pages[2]`` on, or empty when all are.
        pages: [begin, end) to look at, and the first page seen.
        tokens: [begin, end) that are visible.
        base: line of token 0.
    """
    count = 0
    for page in range(pages[0], pages[1]):
        if chosen.shape[0] == 0 or chosen[page - pages[2]]:
            begin = max(tokens[0], page * page_size)
            for token in range(begin, min(tokens[1], (page + 1) * page_size)):
                lines[count] = base + token
                count += 1
    return count


@_helper
def _attend(query, block, lines, count, scores, mixed):
    """Attend one head to listed tokens; returns the largest score and the sum of weights.

    Args:
        block: its keys and values.
        lines: [n] int64 with room for 7 more than ``count``; the room is overwritten.
        scores: [n] float32, overwritten.
        mixed: [D] float32, overwritten; not yet divided by the sum.
    """
    keys, values = block
    mixed[:] = np.float32(0.0)
    padded = (count + ROWS_AT_ONCE - 1) // ROWS_AT_ONCE * ROWS_AT_ONCE
    for i in range(count, padded):
        lines[i] = lines[count - 1]
    # Chosen pages are too short for the hardware to foresee; the values' turn comes last.
    for first in range(0, min(padded, _AHEAD), ROWS_AT_ONCE):
        prefetch_rows(keys, lines, first)
    for first in range(0, padded, ROWS_AT_ONCE):
        if first + _AHEAD < padded:
            prefetch_rows(keys, lines, first + _AHEAD)
        prefetch_rows(values, lines, first)
        dot_rows(keys, lines, first, query, scores)
    top, total = softmax(scores[:count])
    for i in range(count, padded):
        scores[i] = np.float32(0.0)
    for first in range(0, padded, ROWS_AT_ONCE):
        add_rows((values, 0), lines, scores, first, mixed)
    return top, total


@_helper
def _merge(tops, totals, parts, mixed):
    """One head's parts [N, D] into the softmax over all of them [D]."""
    top = np.float32(-np.inf)
    for part in range(parts.shape[0]):
        if totals[part] > 0:
            top = max(top, tops[part])
    total = np.float32(0.0)
    mixed[:] = np.float32(0.0)
    for part in range(parts.shape[0]):
        if totals[part] > 0:
            share = exp_nonpositive(tops[part] - top)
            total += share * totals[part]
            for d in range(mixed.shape[0]):
                mixed[d] += share * parts[part, d]
    for d in range(mixed.shape[0]):
        mixed[d] /= total


@_helper
def _add_update(hidden, update, weights):
    """hidden += the attention's output, after its bias and norm."""
    for row in range(hidden.shape[0]):
        if weights.output_bias.shape[0] > 0:
            for channel in range(hidden.shape[1]):
                update[row, channel] += weights.output_bias[channel]
        if weights.output_norm.shape[0] > 0:
            norm_row(update[row], weights.output_norm, weights.epsilon, update[row])
        for channel in range(hidden.shape[1]):
            hidden[row, channel] += update[row, channel]


@numba.njit(parallel=True, nogil=True, cache=True, error_model="numpy")
def _choose_heads(query, blocks, rows, chosen, outside):
    """``_choose`` of every row and head: query [R, H, D], chosen [R, H, P], outside [R, H]."""
    num_rows, num_heads, _ = query.shape
    own, shared = blocks
    num_kv_heads, page_size = rows.num_kv_heads, rows.page_size
    per_group, share = num_heads // num_kv_heads, rows.best_share
    shared_tokens, own_tokens, sources = rows.shared_tokens, rows.own_tokens, rows.sources
    first_seen, kept = rows.first_seen, rows.pages_kept
    bounds = (shared.page_min, shared.page_max, own.page_min, own.page_max)
    shared_pages, own_pages = shared.page_capacity, own.page_capacity
    for task in numba.prange(num_rows * num_heads):
        row, head = task // num_heads, task % num_heads
        group = head // per_group
        lines = (
            (sources[row] * num_kv_heads + group) * shared_pages,
            (row * num_kv_heads + group) * own_pages,
        )
        total = shared_tokens[row] + own_tokens[row] + 1
        info = (shared_tokens[row], first_seen[row], total, kept[row], page_size, share)
        outside[row, head] = _choose(query[row, head], bounds, lines, info, chosen[row, head])


@_helper
def _attend_part(query, block, span, marks, out):
    """``_attend`` of a group's heads to one part's pages, in one block.

    Args:
        query: [heads, D] float32.
        block: its keys and values.
        span: pages [begin, end) and the first one seen; tokens [begin, end) that are
            visible; line of token 0; tokens per page.
        marks: [heads, P] uint8 from the first page seen on; [heads, 0] when all are chosen.
        out: tops and totals [heads], and sums [heads, D] where totals is not 0; float32,
            overwritten.
    """
    tops, totals, sums = out
    begin, end, first, first_seen, total, base, page_size = span
    room = max(end - begin, 0) * page_size + ROWS_AT_ONCE
    lines, scores = np.empty(room, np.int64), np.empty(room, np.float32)
    pages, tokens = (begin, end, first), (first_seen, total)
    count = 0
    for head in range(query.shape[0]):
        if head == 0 or marks.shape[1] > 0:
            count = _list_lines(marks[head], pages, tokens, base, page_size, lines)
        totals[head] = np.float32(0.0)
        if count > 0:
            tops[head], totals[head] = _attend(query[head], block, lines, count, scores, sums[head])


@numba.njit(parallel=True, nogil=True, cache=True, error_model="numpy")
def _attend_parts(query, blocks, rows, chosen, partial):
    """``_attend_part`` of every row, key-value head, part and block.

    Args:
        chosen: [R, H, P] uint8, meaningful for rows that do not keep all pages.
        partial: tops and totals [N, R, H] and sums [N, R, H, D], all float32, overwritten;
            part n's shared tokens are at 2 n, its own ones at 2 n + 1.
    """
    num_rows, num_heads, _ = query.shape
    tops, totals, sums = partial
    own, shared = blocks
    tasks = rows.tasks
    num_kv_heads, page_size = rows.num_kv_heads, rows.page_size
    per_group, num_parts = num_heads // num_kv_heads, tops.shape[0] // 2
    all_shared, all_own, sources = rows.shared_tokens, rows.own_tokens, rows.sources
    all_first, all_kept = rows.first_seen, rows.pages_kept
    shared_data, own_data = (shared.keys, shared.values), (own.keys, own.values)
    shared_capacity, own_capacity = shared.capacity, own.capacity
    jobs = num_rows * num_kv_heads * num_parts
    turns = (jobs + tasks - 1) // tasks
    for turn in numba.prange(turns * tasks):
        # Each thread takes every n-th part: late tokens are chosen more often than early ones.
        job = turn % turns * tasks + turn // turns
        if job < jobs:
            pair, part = job // num_parts, job % num_parts
            row, group = pair // num_kv_heads, pair % num_kv_heads
            shared_tokens, first_seen = all_shared[row], all_first[row]
            total = shared_tokens + all_own[row] + 1
            first, last = first_seen // page_size, (total + page_size - 1) // page_size
            parts = _parts_for(last - first, page_size)
            begin = first + (last - first) * min(part, parts) // parts
            end = first + (last - first) * min(part + 1, parts) // parts
            middle = min(max(shared_tokens // page_size, begin), end)
            low, high = group * per_group, (group + 1) * per_group
            marks = chosen[row, low:high, : last - first]
            if all_kept[row] >= last - first:
                marks = chosen[row, low:high, :0]
            line = (sources[row] * num_kv_heads + group) * shared_capacity
            vectors, slot = query[row, low:high], 2 * part
            for block in range(2):
                at = (slot + block, row)
                out = (tops[at][low:high], totals[at][low:high], sums[at][low:high])
                if block == 0:
                    span = (begin, middle, first, first_seen, total, line, page_size)
                    _attend_part(vectors, shared_data, span, marks, out)
                else:
                    line = pair * own_capacity - shared_tokens
                    span = (middle, end, first, first_seen, total, line, page_size)
                    _attend_part(vectors, own_data, span, marks, out)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def attention_rows(hidden, weights, blocks, rows, angles, outside):
    """Add the attention of one decode step to the residual stream, and write the cache.

    Args:
        hidden: [R, C] float32, contiguous, changed.
        weights: AttentionWeights.
        blocks: two CacheBlock: the rows' own, which gets the new keys and values, and the
            shared one (the own one again where nothing is shared).
        rows: StepRows.
        angles: [2, R, D] float32, cosine and sine of each row's position.
        outside: [R, H] float32, overwritten if ``rows.best_share`` is above 0.
    """
    own, tasks = blocks[0], rows.tasks
    num_rows, size = hidden.shape[0], own.keys.shape[1]
    num_kv_heads = rows.num_kv_heads
    update = np.empty_like(hidden)
    for row in range(num_rows):
        norm_row(hidden[row], weights.norm, weights.epsilon, update[row])
    width = weights.query_key_value.shape[0 if weights.out_major else 1]
    flat = np.empty((num_rows, width), np.float32)
    product(update, weights.query_key_value, weights.out_major, flat, tasks)
    heads = flat.reshape(num_rows, width // size, size)
    _finish_heads(heads, weights, angles, num_kv_heads, rows.scale)
    num_heads = heads.shape[1] - 2 * num_kv_heads
    _write(heads[:, num_heads:], own, rows.own_tokens, rows.page_size, rows.extend_bounds)
    query = np.ascontiguousarray(heads[:, :num_heads])
    most, sparse = 0, False
    for row in range(num_rows):
        total = rows.shared_tokens[row] + rows.own_tokens[row] + 1
        pages = (total + rows.page_size - 1) // rows.page_size
        pages -= rows.first_seen[row] // rows.page_size
        most, sparse = max(most, pages), sparse or rows.pages_kept[row] < pages
    chosen = np.empty((num_rows, num_heads, most), np.uint8)
    if sparse or rows.best_share > 0:
        _choose_heads(query, blocks, rows, chosen, outside)
    slots = 2 * _parts_for(most, rows.page_size)
    tops = np.empty((slots, num_rows, num_heads), np.float32)
    totals = np.empty((slots, num_rows, num_heads), np.float32)
    sums = np.empty((slots, num_rows, num_heads, size), np.float32)
    _attend_parts(query, blocks, rows, chosen, (tops, totals, sums))
    mixed = np.empty((num_rows, num_heads, size), np.float32)
    for row in range(num_rows):
        for head in range(num_heads):
            _merge(tops[:, row, head], totals[:, row, head], sums[:, row, head], mixed[row, head])
    attended = mixed.reshape(num_rows, num_heads * size)
    product(attended, weights.output, weights.out_major, update, tasks)
    _add_update(hidden, update, weights)
