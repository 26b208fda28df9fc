"""Page-sparse attention of many rows on the CPU, pages chosen per KV group by mass; in Numba.

The same choice as ``reference.py`` with the scorer "int4" and the choice of a "group". A task is
one row and KV head, as in ``cpu.py``; only tokens that the row sees are scored.
"""

from __future__ import annotations

import numba
import numpy as np

from kernels.cpu.compiling import helper, team_kernel
from kernels.cpu.numba_helpers import least_needed, outside_best
from kernels.key_codes.cpu import round_rows, score_tokens
from kernels.key_codes.reference import OCTET
from kernels.page_attention.cpu import list_best, list_valid
from kernels.page_attention.cpu_group import attend_group, softmax_in_place


@helper
def _seen(masked, valid_tokens, row, begin, end):
    """[first, last) of the tokens of [begin, end) that the row may see."""
    if not masked:
        return begin, end
    while begin < end and not valid_tokens[row, begin]:
        begin += 1
    while end > begin and not valid_tokens[row, end - 1]:
        end -= 1
    return begin, end


@helper
def _score_seen(codes, scales, line, seen, queries, about, scores, at):
    """Estimated scores [V, T] of one block's tokens ``seen`` into columns ``at`` and on."""
    begin, end = seen
    if end <= begin:
        return
    low, high = begin // OCTET, (end + OCTET - 1) // OCTET
    room = np.empty((queries.shape[0], OCTET * (high - low)), np.float32)
    score_tokens(codes, scales, (line + low, high - low), queries, about, room)
    shift = begin - OCTET * low
    for v in range(queries.shape[0]):
        for i in range(end - begin):
            scores[v, at + i] = room[v, shift + i]


@helper
def _add_masses(weights, at, seen, page_size, page_before, masses):
    """masses[p] = the weights of page p's tokens; the block's pages follow ``page_before``."""
    begin, end = seen
    token = begin
    while token < end:
        page = token // page_size
        total = np.float32(0.0)
        for i in range(token, min((page + 1) * page_size, end)):
            total += weights[at + i - begin]
        masses[page_before + page] = total
        token = (page + 1) * page_size


@helper
def _weigh_pages(vectors, shared, own, seen_both, hidden, sizes, shares, outside):
    """Each page's mean share of a group's attention, times the number of heads.

    Args:
        vectors: [V, D], the group's queries.
        shared, own: codes, scales and line of the row's first octet, of the two blocks.
        seen_both: [begin, end) of each block's tokens that the row sees.
        hidden: whether tokens are masked, the mask [R, S], the row, the row's valid pages [P].
        sizes: page size, tokens of the shared block, share of the best pages.
        shares: [P], zero; added to.
        outside: [V], overwritten with the mass outside the best pages if their share is above 0.
    """
    seen_1, seen_2 = seen_both
    masked, valid_tokens, row, valid = hidden
    page_size, tokens_1, best_share = sizes
    before = (tokens_1 + page_size - 1) // page_size
    middle = seen_1[1] - seen_1[0]
    num_heads, size = vectors.shape
    queries = np.empty((num_heads, size), np.int8)
    about = np.empty((num_heads, 2), np.float32)
    round_rows(vectors, queries, about)
    scores = np.empty((num_heads, middle + seen_2[1] - seen_2[0]), np.float32)
    _score_seen(shared[0], shared[1], shared[2], seen_1, queries, about, scores, 0)
    _score_seen(own[0], own[1], own[2], seen_2, queries, about, scores, middle)
    masses = np.empty(shares.shape[0], np.float32)
    for v in range(num_heads):
        if masked:
            for i in range(middle):
                if not valid_tokens[row, seen_1[0] + i]:
                    scores[v, i] = -np.inf
            for i in range(scores.shape[1] - middle):
                if not valid_tokens[row, tokens_1 + seen_2[0] + i]:
                    scores[v, middle + i] = -np.inf
        total = softmax_in_place(scores[v], scores.shape[1])
        masses[:] = np.float32(0.0)
        _add_masses(scores[v], 0, seen_1, page_size, 0, masses)
        _add_masses(scores[v], middle, seen_2, page_size, before, masses)
        for page in range(masses.shape[0]):
            shares[page] += masses[page] / total
        if best_share > 0:
            outside[v] = outside_best(masses[valid], best_share) / total


@helper
def _list_needed(shares, heads, floor, chosen, count):
    """The pages that a group's heads need, see ``select_needed``; returns how many.

    Args:
        shares: [P] float32, summed over the heads.
        chosen: [≥ count] int64, the valid pages; overwritten with those that are needed.
    """
    mine = np.empty(count, np.float32)
    part = np.float32(1.0) / np.float32(heads)
    for i in range(count):
        mine[i] = shares[chosen[i]] * part
    least = least_needed(mine, floor)
    length = 0
    for i in range(count):
        chosen[length] = chosen[i]
        length += mine[i] >= least
    return length


@team_kernel
def attend_rows_by_mass(query, first, second, plan, mixed, read, outside):
    """``attend`` of every row; arguments as ``attend_rows``."""
    keys_1, values_1, codes_1, scales_1 = first.keys, first.values, first.low, first.high
    keys_2, values_2, codes_2, scales_2 = second.keys, second.values, second.low, second.high
    sources_1, sources_2 = first.sources, second.sources
    tokens_1, tokens_2 = first.tokens, second.tokens
    valid_tokens, valid_pages, pages_kept = plan.valid_tokens, plan.valid_pages, plan.pages_kept
    masked, page_size, share = plan.token_masked, plan.page_size, plan.best_share
    floors = plan.floors
    num_kv_heads, num_pages = plan.num_kv_heads, valid_pages.shape[1]
    per_group = query.shape[1] // num_kv_heads
    in_group = first.rows_per_source if tokens_1 > 0 else 1
    for task in numba.prange(query.shape[0] * num_kv_heads):
        # Rows that read the same keys come one after another: those keys stay in the cache.
        group, rest = task // (in_group * num_kv_heads), task % (in_group * num_kv_heads)
        row, head = group * in_group + rest % in_group, rest // in_group
        source_1 = sources_1[row // first.rows_per_source]
        source_2 = sources_2[row // second.rows_per_source]
        base_1 = source_1 * first.row_stride + head * first.head_stride
        base_2 = source_2 * second.row_stride + head * second.head_stride
        heads = slice(head * per_group, (head + 1) * per_group)
        chosen = np.empty(num_pages + 1, np.int64)
        count = list_valid(valid_pages, row, chosen)
        if pages_kept[row] < count or share > 0:
            line_1 = source_1 * first.page_row_stride + head * first.page_head_stride
            line_2 = source_2 * second.page_row_stride + head * second.page_head_stride
            seen_1 = _seen(masked, valid_tokens, row, 0, tokens_1)
            begin, end = _seen(masked, valid_tokens, row, tokens_1, tokens_1 + tokens_2)
            shares = np.zeros(num_pages, np.float32)
            _weigh_pages(
                query[row, heads],
                (codes_1, scales_1, line_1),
                (codes_2, scales_2, line_2),
                (seen_1, (begin - tokens_1, end - tokens_1)),
                (masked, valid_tokens, row, valid_pages[row]),
                (page_size, tokens_1, share),
                shares,
                outside[row, heads],
            )
            if pages_kept[row] < count and floors.shape[0] > 0:
                count = _list_needed(shares, per_group, floors[row], chosen, count)
            elif pages_kept[row] < count:
                order = np.empty(num_pages, np.uint32)
                count = list_best(shares, valid_pages, row, pages_kept[row], order, chosen)
        who = np.zeros(num_pages, np.int64)
        for i in range(count):
            who[chosen[i]] = -1  # all of the group
        blocks = (keys_1, base_1, tokens_1), (keys_2, base_2, tokens_2)
        hidden, values = (masked, valid_tokens, row), (values_1, values_2)
        vectors, out = query[row, heads], mixed[row, heads]
        read[row, head] = attend_group(vectors, blocks, values, who, hidden, page_size, out)
