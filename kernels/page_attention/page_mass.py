"""Pages of all rows and KV heads by their estimated attention mass, by a team; in Numba.

The scorer "int4" and the choice of a "group" of ``page_attention/reference.py``: tokens are
scored from 4-bit keys, a page weighs what its visible tokens weigh together, and the heads of a
group choose once, by the mean of their fractions. As in ``group_attention.py``, parts of a
row's pages are weighed side by side, each against its own largest score, and then put together.
"""

import numpy as np

from kernels.cpu.compiling import helper
from kernels.cpu.numba_helpers import exp_nonpositive, outside_best
from kernels.cpu.team import meet
from kernels.cpu.vector_softmax import LEAST, largest, weigh, weigh_octets
from kernels.key_codes import OCTET
from kernels.key_codes.cpu import AHEAD, best_products, round_rows, score_octets
from kernels.page_attention.group_attention import (
    chooses_pages,
    largest_part,
    part_of,
    parts_for,
    seen_pages,
)

_PRODUCTS = best_products()


@helper
def _score_block(block, visible, queries, scores, column):
    """Score consecutive tokens of a block.

    Args:
        block: codes, scales, row of the first octet.
        visible: [begin, end) of the block's tokens.
        queries: of a group's heads [V, D] and [V, 2], as ``round_rows`` leaves them.
        scores: [V, n] float32; up to seven columns beside those of the tokens are overwritten.
        column: of the first token, at least 7 where it is within an octet.
    Returns: the address of the codes after those that it prefetched.
    """
    codes, scales, first = block
    begin, end = visible
    low, high = begin // OCTET, (end + OCTET - 1) // OCTET
    stretch, out = (first + low, high - low), scores[:, column - (begin - low * OCTET) :]
    score_octets(codes, scales, stretch, queries[0], queries[1], out, _PRODUCTS)
    return np.int64(codes.ctypes.data) + codes.shape[1] * (first + high + AHEAD)


@helper
def _weigh_pages(scores, head, tokens, page_size, later, masses):
    """Weigh one head's tokens, and sum them up by page.

    Args:
        scores: [V, n] float32, contiguous (a slice of it would not be weighed in vectors), the
            first token's in column ``OCTET``; changed.
        tokens: how many there are, and how many of them the first page holds.
        later: as of ``weigh_octets``.
        masses: [P] float32, of the pages, overwritten; relative to the largest score.
    Returns: the largest score, and the sum of the masses.
    """
    (count, first), begin = tokens, OCTET
    top = largest(scores, head, begin, begin + count)
    page, begun, total = 0, 0, np.float32(0.0)
    if page_size == OCTET and first == OCTET:
        page = count // OCTET
        total = weigh_octets(scores, (head, begin), page, top, masses, later)
        begun = page * OCTET
    total += weigh(scores, head, begin + begun, begin + count, top)
    while page < masses.shape[0]:
        stop = min(count, first + page * page_size)
        mass = np.float32(0.0)
        for i in range(np.uint64(begin + begun), np.uint64(begin + stop)):
            mass += scores[head, i]
        masses[page] = mass
        page, begun = page + 1, stop
    return top, total


@helper
def _score_pages(pair, pages, blocks, rows, queries, scores):
    """Score the visible tokens of pages [begin, end) of a pair of a row and a KV head; queries and
    scores as of ``_score_block``.

    Returns: how many tokens there are, and how many of them the first page holds; and the address
        that ``_score_block`` returns.
    """
    (row, group), (own, shared), later = pair, blocks, np.int64(0)
    shared_tokens, page_size = rows.shared_tokens[row], rows.page_size
    from_token = max(pages[0] * page_size, rows.first_seen[row])
    to_token = min(pages[1] * page_size, shared_tokens + rows.own_tokens[row] + 1)
    middle = min(max(from_token, shared_tokens), to_token)
    if middle > from_token:
        line = (rows.sources[row] * rows.num_kv_heads + group) * shared.octet_capacity
        block = (shared.codes, shared.scales, line)
        later = _score_block(block, (from_token, middle), queries, scores, OCTET)
    if to_token > middle:
        line = (row * rows.num_kv_heads + group) * own.octet_capacity
        visible = (middle - shared_tokens, to_token - shared_tokens)
        block, column = (own.codes, own.scales, line), OCTET + middle - from_token
        later = _score_block(block, visible, queries, scores, column)
    return (to_token - from_token, (pages[0] + 1) * page_size - from_token), later


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
def _weigh_parts(blocks, rows, queries, weighed, team):
    """The parts of rows and KV heads that one member scores and weighs, one after another: its
    octets lie in order.

    Args:
        queries: [R · H, D] and [R · H, 2], as ``round_rows`` leaves them.
        weighed: of each part the largest score and the sum of masses [N, R, H], and masses
            [R, H, P], relative to the part's largest score.
    """
    tops, totals, masses = weighed
    num_parts, num_rows, num_heads = tops.shape
    page_size, per_group = rows.page_size, num_heads // rows.num_kv_heads
    jobs = num_rows * rows.num_kv_heads * num_parts
    room = page_size * largest_part(masses.shape[2], page_size) + 2 * OCTET
    step = blocks[0].codes.shape[1] // per_group
    scores = np.empty((per_group, room), np.float32)
    for job in range(jobs * team.member // team.members, jobs * (team.member + 1) // team.members):
        pair, part = job // num_parts, job % num_parts
        row, group = pair % num_rows, pair // num_rows
        first, last = seen_pages(rows, row)
        parts = parts_for(last - first, page_size)
        if part >= parts:  # another row has more
            continue
        low, line = group * per_group, row * num_heads + group * per_group
        mine = (queries[0][line : line + per_group], queries[1][line : line + per_group])
        begin, end = part_of(last - first, part, parts)
        pages = first + begin, first + end
        tokens, later = _score_pages((row, group), pages, blocks, rows, mine, scores)
        if rows.left_out.shape[1] > 0:
            _hide_pages(scores, rows.left_out[row], pages, tokens, page_size)
        for head in range(per_group):
            # Weighing reads no memory: codes come meanwhile, mostly the next part's.
            ahead = later + head * step * (tokens[0] // OCTET), step
            own_masses = masses[row, low + head, begin:end]
            top, total = _weigh_pages(scores, head, tokens, page_size, ahead, own_masses)
            tops[part, row, low + head], totals[part, row, low + head] = top, total


@helper
def _add_fractions(weighed, row, head, parts, fractions):
    """fractions[p] += page p's fraction of one head's attention, which its masses become.

    Args:
        weighed: as ``_weigh_parts`` leaves it; changed.
        parts: into how many the row's pages are cut.
        fractions: [P] float32.
    """
    tops, totals, masses = weighed
    top, total = LEAST, np.float32(0.0)
    for part in range(parts):
        top = max(top, tops[part, row, head])
    for part in range(parts):
        tops[part, row, head] = exp_nonpositive(tops[part, row, head] - top)
        total += tops[part, row, head] * totals[part, row, head]
    for part in range(parts):
        begin, end = part_of(fractions.shape[0], part, parts)
        scale = tops[part, row, head] / total
        for page in range(np.uint64(begin), np.uint64(end)):
            fraction = masses[row, head, page] * scale
            masses[row, head, page] = fraction
            fractions[page] += fraction


@helper
def least_needed(fractions, count, heads, floor):
    """The least fraction of a page that a group's heads need; see ``select_needed``.

    Args:
        fractions: [P] float32, summed over the heads, none below 0.
        count: pages that may be read.
    Returns: float32, on the mean over the heads.
    """
    most = np.int32(0)
    # As integers: LLVM makes no vectors of the maximum of floats that Numba writes.
    for page in range(np.uint64(fractions.shape[0])):
        most = max(most, np.float32(fractions[page]).view(np.int32))
    part = np.float32(1.0) / np.float32(heads)
    largest = np.int32(most).view(np.float32) * part
    return min(largest, np.float32(np.float32(floor) / np.float32(count)))


@helper
def _list_pages(fractions, part, least, left_out, chosen):
    """List the pages whose fractions, times ``part``, reach ``least``, but for those left out.

    Args:
        fractions: [P] float32.
        left_out: [P] or [0] uint8.
        chosen: [≥ 1 + P] int32, overwritten, see ``attend_parts``.
    """
    count, some = np.int64(0), left_out.shape[0] > 0
    for page in range(np.uint64(fractions.shape[0])):
        # Written whether or not it is wanted: a branch mispredicts at every third page.
        chosen[np.uint64(1 + count)] = page
        wanted = fractions[page] * part >= least
        count += wanted & (left_out[page] == 0) if some else wanted
    chosen[0] = count


@helper
def list_chosen(rows, weighed, chosen, outside, team):
    """List the pages that one member's rows and KV heads read; the members meet when all are.

    Args:
        weighed: as of ``find_pages``, [0, …] if no row chooses by mass.
        chosen, outside: as of ``find_pages``.
    """
    masses = weighed[2]
    num_rows, per_group = chosen.shape[0], outside.shape[1] // rows.num_kv_heads
    jobs, heads = num_rows * rows.num_kv_heads, per_group if masses.shape[0] > 0 else 0
    for job in range(jobs * team.member // team.members, jobs * (team.member + 1) // team.members):
        # In the order in which parts were weighed: most of them are in this core's cache.
        row, group = job % num_rows, job // num_rows
        low, pages = group * per_group, seen_pages(rows, row)
        count = pages[1] - pages[0]
        if not chooses_pages(rows, row, count) and rows.best_fraction == 0:
            continue
        parts, part = parts_for(count, rows.page_size), np.float32(1.0) / np.float32(per_group)
        fractions, valid = np.zeros(count, np.float32), _count_kept(rows.left_out[row], pages)
        for head in range(low, low + heads):
            _add_fractions(weighed, row, head, parts, fractions)
            if rows.best_fraction > 0:
                weights = masses[row, head, :count]
                outside[row, head] = outside_best(weights, valid, rows.best_fraction)
        least = np.float32(0.0)
        if rows.pages_kept[row] < count:
            least = least_needed(fractions, valid, per_group, rows.floors[row])
        left_out = rows.left_out[row, pages[0] : pages[1]]
        _list_pages(fractions, part, least, left_out, chosen[row, group])
    meet(team)


@helper
def find_pages(query, blocks, rows, weighed, chosen, outside, team):
    """Score every row's tokens from 4-bit keys, and list pages for each KV head; the members meet
    when it is done.

    Args:
        query: [R, H, D] float32.
        weighed: parts' largest scores and sums of masses [N, R, H] and pages' masses [R, H, P],
            float32, the team's; scratch.
        chosen: [R, Hkv, 1 + P] int32, the team's, overwritten for rows that ``chooses_pages``; see
            ``attend_parts``.
        outside: [R, H] float32, the team's, overwritten with the mass outside the best pages if
            ``rows.best_fraction`` is above 0.
    """
    # Each for itself: it takes less than to meet.
    num_rows, num_heads, size = query.shape
    rounded = np.empty((num_rows * num_heads, size), np.int8)
    units = np.empty((num_rows * num_heads, 2), np.float32)
    round_rows(query.reshape(rounded.shape), rounded, units)
    _weigh_parts(blocks, rows, (rounded, units), weighed, team)
    meet(team)
    list_chosen(rows, weighed, chosen, outside, team)
