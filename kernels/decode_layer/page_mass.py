"""Pages of all rows and KV heads by their estimated attention mass, on all threads; in Numba.

The scorer "int4" and the choice of a "group" of ``page_attention/reference.py``: tokens are
scored from 4-bit keys, a page weighs what its visible tokens weigh together, and the heads of a
group choose once, by the mean of their shares.
"""

from __future__ import annotations

import numba
import numpy as np

from kernels.cpu.numba_helpers import outside_best
from kernels.decode_layer.page_choice import choose_pages, largest, seen_pages, weigh
from kernels.key_codes.cpu import score_octets, spread_query
from kernels.key_codes.reference import OCTET

__all__ = ["find_pages_by_mass"]

_helper = numba.njit(nogil=True, error_model="numpy")
_ALONE = 2048  # scores that one thread finds sooner than two wake up


@_helper
def _spread(query):
    """All rows' queries as ``spread_query`` leaves them: [R, H, 8 D] int8 and [R, H, 2]."""
    num_rows, num_heads, size = query.shape
    whole = np.empty((num_rows, num_heads, OCTET * size), np.int8)
    about = np.empty((num_rows, num_heads, 2), np.float32)
    for row in range(num_rows):
        for head in range(num_heads):
            spread_query(query[row, head], whole[row, head], about[row, head])
    return whole, about


@_helper
def _share_of(count, task, tasks):
    """[begin, end) of ``count`` octets that a task takes."""
    return count * task // tasks, count * (task + 1) // tasks


@_helper
def _score_block(task, pair, block, visible, queries, about, scores, room):
    """Score a task's octets of one row and KV head in one block.

    Args:
        task: its number, and how many there are.
        block: codes, scales, row of the first octet.
        visible: [begin, end) of the block's tokens, and how many visible ones are before them.
        queries, about: of the group's heads.
        scores: [V, T] float32, from the first visible token on.
        room: [V, n] float32, scratch for all octets of a task.
    """
    codes, scales, first = block
    begin, end, before = visible
    if end <= begin:
        return
    low, high = begin // OCTET, (end + OCTET - 1) // OCTET
    start, stop = _share_of(high - low, task[0], task[1])
    if stop <= start:
        return
    start, stop = start + low, stop + low
    score_octets(codes, scales, (first + start, stop - start), queries, about, room)
    from_token, to_token = max(begin, start * OCTET), min(end, stop * OCTET)
    shift, place = from_token - start * OCTET, before + from_token - begin
    for v in range(queries.shape[0]):
        for i in range(to_token - from_token):
            scores[v, place + i] = room[v, shift + i]


@_helper
def _score_share(task, memory, numbers, sizes, whole, about, scores):
    """The tokens that one task scores: a stretch of every row's and KV head's.

    Args:
        memory: codes and scales of the shared block, then of the rows' own.
        numbers: shared and own tokens, first one seen and source [R].
        sizes: Hkv, octets per sequence of the shared block and of the own one.
    """
    shared_codes, shared_scales, own_codes, own_scales = memory
    all_shared, all_own, all_first, sources = numbers
    num_kv_heads, shared_octets, own_octets = sizes
    num_rows, num_heads, most = scores.shape
    per_group = num_heads // num_kv_heads
    room = np.empty((per_group, OCTET * (most // OCTET // task[1] + 3)), np.float32)
    for pair in range(num_rows * num_kv_heads):
        row, group = pair // num_kv_heads, pair % num_kv_heads
        low, high = group * per_group, (group + 1) * per_group
        queries, others = whole[row, low:high], about[row, low:high]
        found = scores[row, low:high]
        shared, seen = all_shared[row], all_first[row]
        line = (sources[row] * num_kv_heads + group) * shared_octets
        block = (shared_codes, shared_scales, line)
        _score_block(task, pair, block, (seen, shared, 0), queries, others, found, room)
        block = (own_codes, own_scales, pair * own_octets)
        first = max(seen - shared, 0)
        visible = (first, all_own[row] + 1, max(shared - seen, 0))
        _score_block(task, pair, block, visible, queries, others, found, room)


@_helper
def _sum_of_octet(scores, head, begin):
    """Sum of eight numbers of one row, in pairs: no addition waits for the one before."""
    i, h = np.uint64(begin), head
    low = (scores[h, i] + scores[h, i + 1]) + (scores[h, i + 2] + scores[h, i + 3])
    high = (scores[h, i + 4] + scores[h, i + 5]) + (scores[h, i + 6] + scores[h, i + 7])
    return low + high


@_helper
def _page_masses(scores, head, count, first_seen, page_size, masses):
    """Weigh one head's visible tokens, and sum them up by page.

    Args:
        scores: [H, T] float32, contiguous (a slice of it would not be weighed in vectors);
            the head's first ``count`` are of the tokens from ``first_seen`` on; changed.
        masses: [P] float32, of the pages from the first seen one on; overwritten.
    Returns: their sum.
    """
    total = weigh(scores, head, 0, count, largest(scores, head, 0, count))
    end = page_size - first_seen % page_size
    begin = 0
    for page in range(masses.shape[0]):
        stop = min(end, count)
        if stop - begin == OCTET:
            masses[page] = _sum_of_octet(scores, head, begin)
        else:
            mass = np.float32(0.0)
            for i in range(np.uint64(begin), np.uint64(stop)):
                mass += scores[head, i]
            masses[page] = mass
        begin, end = stop, end + page_size
    return total


@_helper
def _choose_share(task, tasks, scores, numbers, sizes, chosen, outside):
    """The rows' KV heads whose pages one task chooses; arguments as of ``find_pages_by_mass``.

    Args:
        numbers: shared and own tokens, first one seen and pages kept [R].
        sizes: page size, best share and Hkv.
    """
    all_shared, all_own, all_first, all_kept = numbers
    page_size, share, num_kv_heads = sizes
    num_rows, num_heads, _ = scores.shape
    per_group = num_heads // num_kv_heads
    for job in range(task, num_rows * num_kv_heads, tasks):
        row, group = job // num_kv_heads, job % num_kv_heads
        seen, total = all_first[row], all_shared[row] + all_own[row] + 1
        first, last = seen_pages(all_shared[row], all_own[row], seen, page_size)
        shares = np.zeros(last - first, np.float32)
        masses = np.empty(last - first, np.float32)
        for head in range(group * per_group, (group + 1) * per_group):
            whole = _page_masses(scores[row], head, total - seen, seen, page_size, masses)
            for page in range(masses.shape[0]):
                shares[page] += masses[page] / whole
            if share > 0:
                outside[row, head] = outside_best(masses, share) / whole
        if all_kept[row] < last - first:
            head = group * per_group
            choose_pages(shares, all_kept[row], chosen[row, head, : last - first])
            for other in range(head + 1, head + per_group):
                chosen[row, other, : last - first] = chosen[row, head, : last - first]


@numba.njit(parallel=True, nogil=True, cache=True, error_model="numpy")
def find_pages_by_mass(query, blocks, rows, chosen, outside):
    """Score every row's tokens from 4-bit keys, and choose pages for each KV group.

    Args:
        query: [R, H, D] float32.
        chosen: [R, H, P] uint8, overwritten for rows that do not keep all pages: whether the
            head reads the page; heads of a group alike.
        outside: [R, H] float32, overwritten with the mass outside the best pages if
            ``rows.best_share`` is above 0.
    """
    own, shared = blocks
    num_kv_heads, page_size, tasks = rows.num_kv_heads, rows.page_size, rows.tasks
    all_shared, all_own, sources = rows.shared_tokens, rows.own_tokens, rows.sources
    all_first, all_kept, share = rows.first_seen, rows.pages_kept, rows.best_share
    shared_codes, shared_scales, own_codes, own_scales = (
        shared.codes,
        shared.scales,
        own.codes,
        own.scales,
    )
    shared_octets, own_octets = shared.octet_capacity, own.octet_capacity
    whole, about = _spread(query)
    most = np.int64(0)
    for row in range(query.shape[0]):
        most = max(most, all_shared[row] + all_own[row] + 1 - all_first[row])
    scores = np.empty((query.shape[0], query.shape[1], most), np.float32)
    if scores.size <= _ALONE:
        tasks = 1
    # Loops on all threads take arrays and numbers, no tuples.
    for task in numba.prange(tasks):
        memory = (shared_codes, shared_scales, own_codes, own_scales)
        numbers = (all_shared, all_own, all_first, sources)
        sizes = (num_kv_heads, shared_octets, own_octets)
        _score_share((task, tasks), memory, numbers, sizes, whole, about, scores)
    for task in numba.prange(tasks):
        others = (all_shared, all_own, all_first, all_kept)
        _choose_share(
            task, tasks, scores, others, (page_size, share, num_kv_heads), chosen, outside
        )
