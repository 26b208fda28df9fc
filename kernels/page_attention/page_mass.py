"""Pages of all rows and KV heads by their estimated attention mass, by a team; in Numba.

The scorer "int4" and the choice of a "group" of ``page_attention/reference.py``: tokens are
scored from 4-bit keys, a page weighs what its visible tokens weigh together, and the heads of a
group choose once, by the mean of their shares. As in ``group_attention.py``, parts of a
row's pages are weighed side by side, each against its own largest score, and then put together.
"""

from __future__ import annotations

import numpy as np

from kernels.cpu.compiling import helper
from kernels.cpu.numba_helpers import exp_nonpositive, least_needed, outside_best
from kernels.cpu.team import meet
from kernels.cpu.vector_softmax import LEAST, largest, weigh
from kernels.key_codes import OCTET
from kernels.key_codes.cpu import round_rows
from kernels.key_codes.octets import best_products, score_octets, sum_octets
from kernels.page_attention.group_attention import (
    largest_part,
    pages_of_part,
    parts_for,
    seen_pages,
)

_PRODUCTS = best_products()


@helper
def _score_block(block, visible, queries, units, scores, column):
    """Score consecutive tokens of a block.

    Args:
        block: codes, scales, row of the first octet.
        visible: [begin, end) of the block's tokens.
        queries, units: of a group's heads.
        scores: [V, n] float32; up to seven columns beside those of the tokens are overwritten.
        column: of the first token, at least 7 where it is within an octet.
    """
    codes, scales, first = block
    begin, end = visible
    low, high = begin // OCTET, (end + OCTET - 1) // OCTET
    stretch, shift = (first + low, high - low), begin - low * OCTET
    out = scores[:, column - shift :]
    score_octets(codes, scales, stretch, queries, units, out, _PRODUCTS)


@helper
def _weigh_pages(scores, head, begin, tokens, page_size, masses):
    """Weigh one head's tokens, and sum them up by page.

    Args:
        scores: [V, n] float32, contiguous (a slice of it would not be weighed in vectors);
            changed.
        begin: column of the first token.
        tokens: how many there are, and how many of them the first page holds.
        masses: [P] float32, of the pages, overwritten; relative to the largest score.
    Returns: the largest score, and the sum of the masses.
    """
    count, first = tokens
    top = largest(scores, head, begin, begin + count)
    total = weigh(scores, head, begin, begin + count, top)
    page, place = 0, 0
    if page_size == OCTET and first == OCTET:
        page = count // OCTET
        sum_octets(scores, head, begin, page, masses)
        place = page * OCTET
    while page < masses.shape[0]:
        stop = min(count, first + page * page_size)
        mass = np.float32(0.0)
        for i in range(np.uint64(begin + place), np.uint64(begin + stop)):
            mass += scores[head, i]
        masses[page] = mass
        page, place = page + 1, stop
    return top, total


@helper
def _score_pages(place, pages, memory, numbers, sizes, queries, scores):
    """Score the visible tokens of a row's and KV head's pages [begin, end); arguments as of
    ``_weigh_share``.

    Returns: how many tokens there are, and how many of them the first page holds.
    """
    row, group = place
    shared_codes, shared_scales, own_codes, own_scales = memory
    all_shared, all_own, all_first, sources = numbers
    page_size, num_kv_heads, _, shared_octets, own_octets = sizes
    rounded, units = queries
    shared, count = all_shared[row], all_shared[row] + all_own[row] + 1
    from_token = max(pages[0] * page_size, all_first[row])
    to_token = min(pages[1] * page_size, count)
    middle = min(max(from_token, shared), to_token)
    if middle > from_token:
        line = (sources[row] * num_kv_heads + group) * shared_octets
        block = (shared_codes, shared_scales, line)
        _score_block(block, (from_token, middle), rounded, units, scores, OCTET)
    if to_token > middle:
        block = (own_codes, own_scales, (row * num_kv_heads + group) * own_octets)
        visible = (middle - shared, to_token - shared)
        _score_block(block, visible, rounded, units, scores, OCTET + middle - from_token)
    return to_token - from_token, (pages[0] + 1) * page_size - from_token


@helper
def _hide_pages(scores, left_out, pages, tokens, page_size):
    """−inf for the tokens of pages [begin, end) that are left out; ``tokens`` as of
    ``_weigh_pages``."""
    count, first = tokens
    for page in range(pages[0], pages[1]):
        if left_out[page] != 0:
            stop = min(count, first + (page - pages[0]) * page_size)
            for token in range(max(0, first + (page - pages[0] - 1) * page_size), stop):
                for head in range(scores.shape[0]):
                    scores[head, OCTET + token] = -np.inf


@helper
def _count_kept(left_out, pages):
    """Pages of [first, last) that are not left out."""
    count: int = pages[1] - pages[0]
    for page in range(pages[0], min(pages[1], left_out.shape[0])):
        count -= left_out[page]
    return count


@helper
def _weigh_share(task, memory, numbers, sizes, queries, left_out, weighed):
    """The parts of rows and KV heads that one member scores and weighs, one after another: its
    octets lie in order.

    Args:
        memory: codes and scales of the shared block, then of the rows' own.
        numbers: shared and own tokens, first one seen and source [R].
        sizes: page size, Hkv, members, octets per sequence of the shared block and of the own one.
        queries: [R · H, D] and [R · H, 2], as ``round_rows`` leaves them.
        left_out: as of StepRows.
        weighed: of each part the largest score and the sum of masses [N, R, H], and masses
            [R, H, P], relative to the part's largest score.
    """
    all_shared, all_own, all_first, _ = numbers
    page_size, num_kv_heads, tasks, _, _ = sizes
    tops, totals, masses = weighed
    num_parts, num_rows, num_heads = tops.shape
    per_group = num_heads // num_kv_heads
    jobs = num_rows * num_kv_heads * num_parts
    room = page_size * largest_part(masses.shape[2], page_size) + 2 * OCTET
    scores = np.empty((per_group, room), np.float32)
    for job in range(jobs * task // tasks, jobs * (task + 1) // tasks):
        pair, part = job // num_parts, job % num_parts
        row, group = pair % num_rows, pair // num_rows
        first, last = seen_pages(all_shared[row], all_own[row], all_first[row], page_size)
        parts = parts_for(last - first, page_size)
        if part >= parts:  # another row has more
            continue
        low, line = group * per_group, row * num_heads + group * per_group
        mine = (queries[0][line : line + per_group], queries[1][line : line + per_group])
        begin, _, end = pages_of_part((first, last), part, parts, 0)
        place, pages = (row, group), (begin, end)
        tokens = _score_pages(place, pages, memory, numbers, sizes, mine, scores)
        if left_out.shape[1] > 0:
            _hide_pages(scores, left_out[row], pages, tokens, page_size)
        for head in range(per_group):
            their = masses[row, low + head, begin - first : end - first]
            top, total = _weigh_pages(scores, head, OCTET, tokens, page_size, their)
            tops[part, row, low + head], totals[part, row, low + head] = top, total


@helper
def _add_shares(weighed, row, head, pages, parts, shares):
    """shares[p] += page p's share of one head's attention, which its masses become.

    Args:
        weighed: as ``_weigh_share`` leaves it; changed.
        pages: [first, last) seen; parts: how many they are cut into.
        shares: [P] float32.
    """
    tops, totals, masses = weighed
    top, total = LEAST, np.float32(0.0)
    for part in range(parts):
        top = max(top, tops[part, row, head])
    for part in range(parts):
        tops[part, row, head] = exp_nonpositive(tops[part, row, head] - top)
        total += tops[part, row, head] * totals[part, row, head]
    for part in range(parts):
        begin, _, end = pages_of_part(pages, part, parts, 0)
        scale = tops[part, row, head] / total
        for page in range(np.uint64(begin - pages[0]), np.uint64(end - pages[0])):
            share = masses[row, head, page] * scale
            masses[row, head, page] = share
            shares[page] += share


@helper
def choose_needed(shares, count, heads, floor, chosen):
    """The pages that a group's heads need; see ``select_needed``.

    Args:
        shares: [P] float32, summed over the heads; changed.
        count: pages that may be read.
        chosen: [P] uint8, overwritten: 1 for a page that is chosen, else 0.
    """
    part = np.float32(1.0) / np.float32(heads)
    for page in range(shares.shape[0]):
        shares[page] *= part
    least = least_needed(shares, count, floor)
    for page in range(shares.shape[0]):
        chosen[page] = shares[page] >= least


@helper
def _choose_share(task, numbers, sizes, left_out, weighed, chosen, outside):
    """The rows' KV heads whose pages one member chooses; arguments as of ``find_pages``.

    Args:
        numbers: shared and own tokens, first one seen, pages kept and floors [R].
        sizes: page size, best share, Hkv, and how many members there are.
        left_out: as of StepRows.
        weighed: as ``_weigh_share`` leaves it; changed.
    """
    all_shared, all_own, all_first, all_kept, floors = numbers
    page_size, share, num_kv_heads, tasks = sizes
    masses = weighed[2]
    num_rows, num_heads, _ = masses.shape
    per_group = num_heads // num_kv_heads
    for job in range(task, num_rows * num_kv_heads, tasks):
        row, group = job // num_kv_heads, job % num_kv_heads
        low = group * per_group
        pages = seen_pages(all_shared[row], all_own[row], all_first[row], page_size)
        count = pages[1] - pages[0]
        parts = parts_for(count, page_size)
        shares, valid = np.zeros(count, np.float32), _count_kept(left_out[row], pages)
        for head in range(low, low + per_group):
            _add_shares(weighed, row, head, pages, parts, shares)
            if share > 0:
                outside[row, head] = outside_best(masses[row, head, :count], valid, share)
        if all_kept[row] < count:
            floor, their = floors[row], chosen[row, group, :count]
            choose_needed(shares, valid, per_group, floor, their)


@helper
def find_pages(query, blocks, rows, weighed, chosen, outside, team):
    """Score every row's tokens from 4-bit keys, and choose pages for each KV group; the members
    meet when it is done.

    Args:
        query: [R, H, D] float32.
        weighed: parts' largest scores and sums of masses [N, R, H] and pages' masses [R, H, P],
            float32, the team's; scratch.
        chosen: [R, Hkv, P] uint8, the team's, overwritten for rows that do not keep all pages:
            whether the KV head reads the page.
        outside: [R, H] float32, the team's, overwritten with the mass outside the best pages if
            ``rows.best_share`` is above 0.
    """
    own, shared = blocks
    page_size, num_kv_heads = rows.page_size, rows.num_kv_heads
    memory = (shared.codes, shared.scales, own.codes, own.scales)
    numbers = (rows.shared_tokens, rows.own_tokens, rows.first_seen, rows.sources)
    octets = (shared.octet_capacity, own.octet_capacity)
    sizes = (page_size, num_kv_heads, team.members, octets[0], octets[1])
    # Each for itself: it takes less than to meet.
    num_rows, num_heads, size = query.shape
    rounded = np.empty((num_rows * num_heads, size), np.int8)
    units = np.empty((num_rows * num_heads, 2), np.float32)
    round_rows(query.reshape(rounded.shape), rounded, units)
    queries, left_out = (rounded, units), rows.left_out
    _weigh_share(team.member, memory, numbers, sizes, queries, left_out, weighed)
    meet(team)
    others = (rows.shared_tokens, rows.own_tokens, rows.first_seen, rows.pages_kept, rows.floors)
    scales = (page_size, rows.best_share, num_kv_heads, team.members)
    _choose_share(team.member, others, scales, left_out, weighed, chosen, outside)
    meet(team)
