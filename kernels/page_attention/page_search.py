"""Scores and choices of all rows' and heads' pages, by a team's members; in Numba.

``page_choice.py`` scores and chooses for one row and head. Bounds lie apart by sequence and
key-value head; each member reads its stretches of them as one stream.
"""

from __future__ import annotations

import numpy as np

from kernels.cpu.compiling import helper
from kernels.cpu.team import meet
from kernels.cpu.vector_octets import ROWS
from kernels.page_attention.page_choice import (
    ask_for_bounds,
    choose_pages,
    mass_outside,
    pages_of_part,
    score_pages,
    seen_pages,
)


@helper
def _signed(query):
    """The positive and the negative part of [R, H, D], in one array."""
    signed = np.empty((2, *query.shape), np.float32)
    flat, parts = query.reshape(query.size), signed.reshape(2, query.size)
    for i in range(flat.shape[0]):
        parts[0, i] = max(flat[i], np.float32(0.0))
        parts[1, i] = min(flat[i], np.float32(0.0))
    return signed


@helper
def _stretch(pair, block, task, rows, capacities):
    """The pages of a row and key-value head in a block that a member scores: the line of the
    first, how many, and how many seen pages are before them.

    Args:
        pair: row · Hkv + head.
        block: 0 for the shared one, 1 for the row's own.
        task: the member's number, and how many members there are.
        rows: shared and own tokens, first one seen and source [R], page size, Hkv.
        capacities: pages per sequence of the shared block and of the own one.
    """
    all_shared, all_own, all_first, sources, page_size, num_kv_heads = rows
    row, group = pair // num_kv_heads, pair % num_kv_heads
    before = all_shared[row] // page_size
    first, last = seen_pages(all_shared[row], all_own[row], all_first[row], page_size)
    begin, middle, end = pages_of_part((first, last), task[0], task[1], before)
    if block == 0:
        line = (sources[row] * num_kv_heads + group) * capacities[0] + begin
        return line, middle - begin, begin - first
    return pair * capacities[1] + middle - before, end - middle, middle - first


@helper
def _score_share(task, signed, bounds, rows, capacities, scores):
    """The pages that one member scores: a stretch of every row's and head's, in one stream."""
    num_rows, num_heads, _ = scores.shape
    num_kv_heads = rows[5]
    per_group, pairs = num_heads // num_kv_heads, num_rows * num_kv_heads
    few = np.empty((per_group, ROWS), np.float32)
    for block in range(2):
        highest, lowest = bounds[2 * block], bounds[2 * block + 1]
        line, count, place = _stretch(0, block, task, rows, capacities)
        ask_for_bounds(highest, lowest, (line, count))
        for pair in range(pairs):
            following = (0, 0, 0)
            if pair + 1 < pairs:
                following = _stretch(pair + 1, block, task, rows, capacities)
            row, low = pair // num_kv_heads, pair % num_kv_heads * per_group
            mine = (signed[0, row, low : low + per_group], signed[1, row, low : low + per_group])
            group_scores = scores[row, low : low + per_group, place : place + count]
            score_pages(mine, highest, lowest, (line, count), following[:2], group_scores, few)
            line, count, place = following


@helper
def _choose_share(task, tasks, scores, numbers, sizes, chosen, outside):
    """The rows' heads whose pages one member chooses; arguments as of ``find_pages``.

    Args:
        numbers: shared and own tokens, first one seen and pages kept [R].
        sizes: page size and best share.
    """
    all_shared, all_own, all_first, all_kept = numbers
    page_size, share = sizes
    num_rows, num_heads, _ = scores.shape
    for job in range(task, num_rows * num_heads, tasks):
        row, head = job // num_heads, job % num_heads
        total = all_shared[row] + all_own[row] + 1
        first, last = seen_pages(all_shared[row], all_own[row], all_first[row], page_size)
        pages = last - first
        some = scores[row, head, :pages]
        if all_kept[row] < pages:
            choose_pages(some, all_kept[row], chosen[row, head, :pages])
        if share > 0:
            outside[row, head] = mass_outside(some, all_first[row], total, page_size, share)


@helper
def find_pages(query, blocks, rows, scores, chosen, outside, team):
    """Score every row's pages for each head, and choose; the members meet when it is done.

    Args:
        query: [R, H, D] float32.
        scores: [R, H, P] float32, the team's, from the first page seen; scratch.
        chosen: [R, H, P] uint8, the team's, overwritten for rows that do not keep all pages:
            whether the head reads the page.
        outside: [R, H] float32, the team's, overwritten with the mass outside the best pages if
            ``rows.best_share`` is above 0.
    """
    own, shared = blocks
    bounds = (shared.page_max, shared.page_min, own.page_max, own.page_min)
    places = (
        rows.shared_tokens,
        rows.own_tokens,
        rows.first_seen,
        rows.sources,
        rows.page_size,
        rows.num_kv_heads,
    )
    capacities = (shared.page_capacity, own.page_capacity)
    task = (team.member, team.members)
    _score_share(task, _signed(query), bounds, places, capacities, scores)
    meet(team)
    numbers = (rows.shared_tokens, rows.own_tokens, rows.first_seen, rows.pages_kept)
    sizes = (rows.page_size, rows.best_share)
    _choose_share(team.member, team.members, scores, numbers, sizes, chosen, outside)
    meet(team)
