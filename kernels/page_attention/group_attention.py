"""Attention of a KV group's heads to the pages that they chose together; in Numba.

The tokens of each row and key-value head are cut into parts that a team's members take and that are
merged (FlashDecoding), because one row of a small model has fewer heads than there may be members.
A part's keys and values are read once for all of the group's heads.
"""

from __future__ import annotations

import numpy as np

from kernels.cpu.compiling import helper
from kernels.cpu.numba_helpers import exp_nonpositive
from kernels.cpu.team import meet
from kernels.cpu.vector_octets import LANES, ROWS, add_octets, dot_octets, prefetch_rows
from kernels.cpu.vector_softmax import LEAST, SCORES_AT_ONCE, weigh_scores
from kernels.page_attention.page_choice import pages_of_part, seen_pages

# Tokens per part: its keys stay in the first cache while a group's heads read them. Not
# the number of members decides, so that results do not depend on it.
_PART_TOKENS = 512
_MOST_PARTS = 16  # merging them takes one thread's time
# Keys and values of so many octets stay in the first cache, those of float32 too.
_OCTETS = SCORES_AT_ONCE // ROWS


@helper
def parts_for(num_pages, page_size):
    """Into how many parts a row's pages are cut."""
    wanted = (num_pages * page_size + _PART_TOKENS - 1) // _PART_TOKENS
    return max(1, min(wanted, _MOST_PARTS))


@helper
def largest_part(num_pages, page_size):
    """Pages of the largest part of any row that has at most so many pages.

    A row just short of another part has larger ones than a longer row.
    """
    whole = (_PART_TOKENS + page_size - 1) // page_size
    return min(num_pages, max(whole, (num_pages + _MOST_PARTS - 1) // _MOST_PARTS))


@helper
def _list_octets(wanted, pages, tokens, base, page_size, listed):
    """Visible tokens of the pages that a group chose, up to eight in a row.

    Args:
        wanted: [P] uint8, 1 for a chosen page, from page ``pages[2]`` on; [0] for all.
        pages: [begin, end) to look at, and the first page seen.
        tokens: [begin, end) that are visible.
        base: line of token 0.
        listed: [2, n] int64, overwritten: lines of the first tokens, and how many there are.
    Returns: the length of the list, and how many tokens are on it.
    """
    length, total = 0, 0
    lines, counts, every = listed[0], listed[1], wanted.shape[0] == 0
    per_page = (page_size + ROWS - 1) // ROWS
    for place in range(np.uint64(pages[1] - pages[0])):
        start = (pages[0] + np.int64(place)) * page_size
        is_wanted = every or wanted[np.uint64(pages[0] - pages[2]) + place] != 0
        page_end = min(start + page_size, tokens[1])
        for octet in range(per_page):
            token = max(start + ROWS * octet, tokens[0])
            count = min(start + ROWS * (octet + 1), page_end) - token
            at = np.uint64(length)
            lines[at], counts[at] = base + token, count
            # Written whether or not it is wanted: a branch mispredicts at every third page.
            length += is_wanted & (count > 0)
    for i in range(np.uint64(length)):
        total += counts[i]
    return length, total


@helper
def _attend(query, keys, values, listed, lengths, room, out):
    """Attend a group's heads to listed tokens, some at a time.

    Args:
        query: [heads, D] float32.
        keys, values: [X, D] of a block.
        listed: two as ``_list_octets`` leaves them: this part's, the keys of whose first octets
            were asked for, and the next part's, whose keys are.
        lengths: of the two.
        room: scores [heads, 32] and fades [heads], float32, and [n] int64; overwritten.
        out: largest scores and sums of weights [heads], and mixed values [heads, D], not yet
            divided by the sums; overwritten.
    """
    mine, length, (scores, fades, ahead) = listed[0], lengths[0], room
    tops, totals, mixed = out
    tops[:] = LEAST
    mixed[:] = np.float32(0.0)
    # Chosen pages are too short for the hardware to foresee. Values are asked for while their
    # keys are read, and the next keys while values are.
    for i in range(length):
        place = i + _OCTETS - length
        ahead[i] = mine[0, i + _OCTETS] if place < 0 else mine[0, i]
        if place >= 0 and place < lengths[1]:
            ahead[i] = listed[1][0, place]
    later_values, later_keys = (values, mine[0]), (keys, ahead)
    vectors = query.shape[1] % LANES == 0
    for begin in range(0, length, _OCTETS):
        span = (begin, min(begin + _OCTETS, length))
        if vectors:
            dot_octets(keys, mine, span, later_values, query, scores, LANES)
        else:
            dot_octets(keys, mine, span, later_values, query, scores, 1)
        for place in range(ROWS * (span[1] - begin), SCORES_AT_ONCE):
            for head in range(query.shape[0]):
                scores[head, place] = -np.inf
        weigh_scores(scores, tops, totals, fades)
        if vectors:
            add_octets(values, mine, span, later_keys, scores, fades, mixed, LANES)
        else:
            add_octets(values, mine, span, later_keys, scores, fades, mixed, 1)


@helper
def _list_part(job, block, chosen, numbers, sizes, listed):
    """``_list_octets`` of one block's tokens of a part; arguments as ``_attend_share`` has them.
    Returns: row, key-value head, part, the length of the list and how many tokens are on it."""
    all_shared, all_own, all_first, all_kept, sources = numbers
    page_size, num_kv_heads, _, own_capacity, shared_capacity, num_parts = sizes
    pair, part = job // num_parts, job % num_parts
    # Rows that read the same keys come one after another: those stay in the core's cache.
    row, group = pair % chosen.shape[0], pair // chosen.shape[0]
    total = all_shared[row] + all_own[row] + 1
    first, last = seen_pages(all_shared[row], all_own[row], all_first[row], page_size)
    parts = parts_for(last - first, page_size)
    if part >= parts:  # another row has more
        return row, group, part, 0, 0
    shared_pages = all_shared[row] // page_size
    begin, middle, end = pages_of_part((first, last), part, parts, shared_pages)
    line = (sources[row] * num_kv_heads + group) * shared_capacity
    pages = (begin, middle, first)
    if block == 1:
        line = (row * num_kv_heads + group) * own_capacity - all_shared[row]
        pages = (middle, end, first)
    if pages[1] == pages[0]:
        return row, group, part, 0, 0
    seen = last - first if all_kept[row] < last - first else 0
    wanted, tokens = chosen[row, group, :seen], (all_first[row], total)
    length, count = _list_octets(wanted, pages, tokens, line, page_size, listed)
    return row, group, part, length, count


@helper
def _attend_share(task, query, memory, numbers, sizes, chosen, partial):
    """``attend_parts``' parts that one member takes, every n-th: late tokens are chosen more
    often than early ones."""
    num_rows, num_heads, _ = query.shape
    tops, totals, sums, read = partial
    own_keys, own_values, shared_keys, shared_values = memory
    page_size, num_kv_heads, tasks, _, _, num_parts = sizes
    per_group, jobs = num_heads // num_kv_heads, num_rows * num_kv_heads * num_parts
    # Room for the largest part; a new array for each one took as long as 100 tokens.
    most_pages = largest_part(chosen.shape[2], page_size)
    room = most_pages * ((page_size + ROWS - 1) // ROWS) + 1
    listed = np.empty((2, 2, room), np.int64)
    scores, fades = (
        np.empty((per_group, SCORES_AT_ONCE), np.float32),
        np.empty(per_group, np.float32),
    )
    memory_for = (scores, fades, np.empty(room, np.int64))
    for block in range(2):
        # One call for both blocks: code, too, comes through the caches.
        keys = shared_keys if block == 0 else own_keys
        values = shared_values if block == 0 else own_values
        if task < jobs:
            upcoming = _list_part(task, block, chosen, numbers, sizes, listed[0])
            for i in range(min(upcoming[3], _OCTETS)):
                prefetch_rows(keys, listed[0, 0, i])
        side = 0
        for job in range(task, jobs, tasks):
            row, group, part, length, count = upcoming
            lists = (listed[side], listed[1 - side])
            # Listed while this part's first keys are on their way.
            upcoming = (row, group, part, 0, 0)
            if job + tasks < jobs:
                upcoming = _list_part(job + tasks, block, chosen, numbers, sizes, lists[1])
            low, high, slot = group * per_group, (group + 1) * per_group, 2 * part + block
            out = (
                tops[slot, row, low:high],
                totals[slot, row, low:high],
                sums[slot, row, low:high],
            )
            out[1][:] = np.float32(0.0)
            read[slot, row, group] = np.float32(count)
            if length > 0:
                lengths = (length, upcoming[3])
                _attend(query[row, low:high], keys, values, lists, lengths, memory_for, out)
            side = 1 - side


@helper
def attend_parts(query, blocks, rows, chosen, partial, team):
    """``_attend`` of every row, key-value head, part and block; the members meet when it is done.

    Args:
        chosen: [R, Hkv, P] uint8, see ``find_pages``; for rows that do not keep all pages.
        partial: tops and totals [N, R, H], sums [N, R, H, D] and tokens read [N, R, Hkv], all
            float32, the team's, overwritten, but for tops and sums where the total is 0; part n's
            shared tokens are at 2 n, its own ones at 2 n + 1.
    """
    own, shared = blocks
    memory = (own.keys, own.values, shared.keys, shared.values)
    numbers = (
        rows.shared_tokens,
        rows.own_tokens,
        rows.first_seen,
        rows.pages_kept,
        rows.sources,
    )
    parts = partial[0].shape[0] // 2
    capacities = own.capacity, shared.capacity
    sizes = rows.page_size, rows.num_kv_heads, team.members, *capacities, parts
    _attend_share(team.member, query, memory, numbers, sizes, chosen, partial)
    meet(team)


@helper
def merge(partial, rows, mixed):
    """The parts of some rows' heads into the softmax over all of them.

    Args:
        partial: as ``attend_parts`` leaves it.
        rows: [begin, end).
        mixed: [R, H, D] float32, overwritten.
    """
    tops, totals, sums, _ = partial
    num_parts, _, num_heads = tops.shape
    size = np.uint64(mixed.shape[2])
    for row in range(rows[0], rows[1]):
        for head in range(num_heads):
            top, total = LEAST, np.float32(0.0)
            for part in range(num_parts):
                if totals[part, row, head] > 0:
                    top = max(top, tops[part, row, head])
            for d in range(size):
                mixed[row, head, d] = np.float32(0.0)
            for part in range(num_parts):
                if totals[part, row, head] > 0:
                    share = exp_nonpositive(tops[part, row, head] - top)
                    total += share * totals[part, row, head]
                    for d in range(size):
                        mixed[row, head, d] += share * sums[part, row, head, d]
            for d in range(size):
                mixed[row, head, d] /= total
