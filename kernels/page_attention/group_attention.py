"""Attention of a KV group's heads to the pages that they chose together; in Numba.

The tokens of each row and key-value head are cut into parts that a team's members take and that are
merged (FlashDecoding), because one row of a small model has fewer heads than there may be members.
A part's keys and values are read once for all of the group's heads.
"""

import numpy as np

from kernels.cpu.compiling import helper
from kernels.cpu.numba_helpers import exp_nonpositive
from kernels.cpu.team import meet
from kernels.cpu.vector_code import prefetch_numbers
from kernels.cpu.vector_octets import LANES, ROWS, add_octets, dot_octets
from kernels.cpu.vector_softmax import LEAST, SCORES_AT_ONCE, weigh_scores

# Tokens per part: its keys stay in the first cache while a group's heads read them. Not
# the number of members decides, so that results do not depend on it.
_PART_TOKENS = 512
CHOSEN_TOKENS = 128  # of chosen pages, which are fewer: else there were no more parts than members
_MOST_PARTS = 16  # merging them takes one thread's time
# Keys and values of so many octets stay in the first cache, those of float32 too.
_OCTETS = SCORES_AT_ONCE // ROWS


@helper
def seen_pages(rows, row):
    """The pages [first, last) that a row of StepRows sees, this step's token included."""
    total = rows.shared_tokens[row] + rows.own_tokens[row] + 1
    return rows.first_seen[row] // rows.page_size, (total + rows.page_size - 1) // rows.page_size


@helper
def chooses_pages(rows, row, num_pages):
    """Return whether a row of StepRows reads listed pages instead of all that it sees."""
    chooses = rows.pages_kept[row] < num_pages
    for page in range(rows.left_out.shape[1]):
        chooses |= rows.left_out[row, page] != 0
    return chooses


@helper
def part_of(count, part, parts):
    """The range [begin, end) of ``count`` pages that is one of so many parts."""
    return count * part // parts, count * (part + 1) // parts


@helper
def parts_for(num_pages, page_size, tokens=_PART_TOKENS):
    """Into how many parts of about so many tokens pages are cut: by default those a row sees."""
    wanted = (num_pages * page_size + tokens - 1) // tokens
    return max(1, min(wanted, _MOST_PARTS))


@helper
def largest_part(num_pages, page_size):
    """Pages of the largest part of any row that has at most so many pages.

    A row just short of another part has larger ones than a longer row.
    """
    whole = (_PART_TOKENS + page_size - 1) // page_size
    return min(num_pages, max(whole, (num_pages + _MOST_PARTS - 1) // _MOST_PARTS))


@helper
def _list_octets(pages, tokens, starts, page_size, listed):
    """List the visible tokens of pages, up to eight in a row.

    Args:
        pages: [n] int32, counted from the first page that the row sees; that page; the range
            [begin, end) of them; and whether that is a range of pages instead, of no list.
        tokens: [begin, end) that are visible, and how many the shared block holds, whole pages.
        starts: offsets of token 0 among keys and values of the shared block and of the own one,
            and from one token to the next.
        listed: [3, ≥ octets] int64, overwritten; as ``dot_octets`` takes it.
    Returns: the octets on it.
    """
    counts, keys, values = listed[0], listed[1], listed[2]
    chosen, first, (begin, end), every = pages
    shared, own, size = starts
    per_page, length = (page_size + ROWS - 1) // ROWS, 0
    for at in range(np.uint64(begin), np.uint64(end)):
        page_start = (first + (np.int64(at) if every else np.int64(chosen[at]))) * page_size
        is_shared = page_start < tokens[2]
        first_key = shared[0] if is_shared else own[0]
        first_value = shared[1] if is_shared else own[1]
        page_end = min(page_start + page_size, tokens[1])
        for octet in range(per_page):
            token = max(page_start + ROWS * octet, tokens[0])
            count = min(page_start + ROWS * (octet + 1), page_end) - token
            to = np.uint64(length)
            counts[to] = count
            keys[to], values[to] = first_key + size * token, first_value + size * token
            length += count > 0
    return length


@helper
def _attend(query, keys, values, listed, lengths, room, out):
    """Attend a group's heads to listed tokens, some at a time.

    Args:
        query: [heads, D] float32.
        keys, values: [X, D] of the block that offsets are counted from.
        listed: two as ``_list_octets`` leaves them: this part's, whose first octets' keys were
            prefetched, and the next part's, whose keys are.
        lengths: of the two.
        room: scores [heads, 32] and fades [heads], float32, and [n] int64; overwritten.
        out: largest scores and sums of weights [heads], and mixed values [heads, D], not yet
            divided by the sums; overwritten.
    """
    mine, length, (scores, fades, ahead) = listed[0], lengths[0], room
    tops, totals, mixed = out
    tops[:] = LEAST
    mixed[:] = np.float32(0.0)
    # Chosen pages are too short for the hardware to foresee. Values are prefetched while their
    # keys are read, and the next keys while values are.
    for i in range(length):
        next_octet = i + _OCTETS - length
        ahead[i] = mine[1, i + _OCTETS] if next_octet < 0 else mine[1, i]
        if next_octet >= 0 and next_octet < lengths[1]:
            ahead[i] = listed[1][1, next_octet]
    later_values, later_keys = (values, mine[2]), (keys, ahead)
    vectors = query.shape[1] % LANES == 0
    for begin in range(0, length, _OCTETS):
        span = (begin, min(begin + _OCTETS, length))
        if vectors:
            dot_octets(keys, mine, span, later_values, query, scores, LANES)
        else:
            dot_octets(keys, mine, span, later_values, query, scores, 1)
        for column in range(ROWS * (span[1] - begin), SCORES_AT_ONCE):
            for head in range(query.shape[0]):
                scores[head, column] = -np.inf
        weigh_scores(scores, tops, totals, fades)
        if vectors:
            add_octets(values, mine, span, later_keys, scores, fades, mixed, LANES)
        else:
            add_octets(values, mine, span, later_keys, scores, fades, mixed, 1)


@helper
def _pages_and_parts(rows, row, chosen):
    """Count the pages that a row's KV head reads, from its list ``chosen``, see ``attend_parts``.

    Returns: int64, whether they are all that the row sees, and into how many parts they are cut.
    """
    first, last = seen_pages(rows, row)
    if chooses_pages(rows, row, last - first):
        count = np.int64(chosen[0])
        return count, False, parts_for(count, rows.page_size, CHOSEN_TOKENS)
    return last - first, True, parts_for(last - first, rows.page_size)


@helper
def _list_part(job, blocks, rows, chosen, num_parts, apart, listed):
    """``_list_octets`` of a part.

    Args:
        job: number of the part among all rows' and key-value heads'.
        chosen: as of ``attend_parts``.
        num_parts: the most that a row is cut into.
        apart: numbers from the own block's keys and values to the shared one's.
    Returns: row, key-value head, part, and the length of the list.
    """
    own, shared = blocks
    pair, part = job // num_parts, job % num_parts
    # Rows that read the same keys come one after another: those stay in the core's cache.
    row, group = pair % chosen.shape[0], pair // chosen.shape[0]
    count, every, parts = _pages_and_parts(rows, row, chosen[row, group])
    if part >= parts:  # another row has more
        return row, group, part, 0
    shared_tokens, size = rows.shared_tokens[row], own.keys.shape[1]
    line = size * ((rows.sources[row] * rows.num_kv_heads + group) * shared.capacity)
    start = (apart[0] + line, apart[1] + line)
    line = size * ((row * rows.num_kv_heads + group) * own.capacity - shared_tokens)
    tokens = rows.first_seen[row], shared_tokens + rows.own_tokens[row] + 1, shared_tokens
    first, _ = seen_pages(rows, row)
    pages = chosen[row, group, 1:], first, part_of(count, part, parts), every
    starts = start, (line, line), size
    length = _list_octets(pages, tokens, starts, rows.page_size, listed)
    # A line of each octet: the hardware goes on from there, with more lines on their way than a
    # core can ask for (scattered rows by two cores of a Xeon: 9.4 → 12.3 GB/s).
    for i in range(np.uint64(0 if every else length)):
        prefetch_numbers(own.keys, listed[1, i], 1)
        prefetch_numbers(own.values, listed[2, i], 1)
    return row, group, part, length


@helper
def _first_job(rows, chosen, num_parts, member, members):
    """The first job of one member, as ``_list_part`` counts them: all read about as many pages."""
    pairs = chosen.shape[0] * chosen.shape[1]
    total, before = 0, 0
    for pair in range(pairs):
        row, group = pair % chosen.shape[0], pair // chosen.shape[0]
        total += _pages_and_parts(rows, row, chosen[row, group])[0]
    for pair in range(pairs if member < members else 0):
        row, group = pair % chosen.shape[0], pair // chosen.shape[0]
        count, _, parts = _pages_and_parts(rows, row, chosen[row, group])
        for part in range(parts):
            begin, end = part_of(count, part, parts)
            if (2 * before + begin + end) * members >= 2 * total * member:
                return pair * num_parts + part
        before += count
    return pairs * num_parts


@helper
def _numbers_apart(first, second):
    """Numbers from the beginning of one array to that of another."""
    return (second.ctypes.data - first.ctypes.data) // first.itemsize


@helper
def attend_parts(query, blocks, rows, chosen, partial, team):
    """``_attend`` of every row, key-value head and part; the members meet when it is done.

    A part's tokens are read in order, whichever block holds them: results do not depend on where
    a shared prefix ends.

    Args:
        chosen: [R, Hkv, 1 + P] int32, of rows that ``chooses_pages``: how many pages the KV head
            reads, then these, ascending, counted from the first one that the row sees.
        partial: tops and totals [N, R, H], sums [N, R, H, D] and tokens read [N, R, Hkv], all
            float32, the team's, overwritten, but for tops and sums where the total is 0.
    """
    (own, shared), (tops, totals, sums, read) = blocks, partial
    apart = _numbers_apart(own.keys, shared.keys), _numbers_apart(own.values, shared.values)
    num_parts, page_size = tops.shape[0], rows.page_size
    per_group = query.shape[1] // rows.num_kv_heads
    begin = _first_job(rows, chosen, num_parts, team.member, team.members)
    end = _first_job(rows, chosen, num_parts, team.member + 1, team.members)
    # Room for the largest part; a new array for each one took as long as 100 tokens.
    pages = largest_part(chosen.shape[2] - 1, page_size)
    most = pages * ((page_size + ROWS - 1) // ROWS) + 1
    listed = np.empty((2, 3, most), np.int64)
    scores = np.empty((per_group, SCORES_AT_ONCE), np.float32)
    room = (scores, np.empty(per_group, np.float32), np.empty(most, np.int64))
    if begin < end:
        upcoming = _list_part(begin, blocks, rows, chosen, num_parts, apart, listed[0])
        for i in range(min(upcoming[3], _OCTETS)):
            prefetch_numbers(own.keys, listed[0, 1, i], ROWS * query.shape[2])
    side = 0
    for job in range(begin, end):
        row, group, part, length = upcoming
        lists = (listed[side], listed[1 - side])
        # Listed while this part's first keys are on their way.
        upcoming = (row, group, part, 0)
        if job + 1 < end:
            upcoming = _list_part(job + 1, blocks, rows, chosen, num_parts, apart, lists[1])
        low, high, count = group * per_group, (group + 1) * per_group, 0
        for i in range(np.uint64(length)):
            count += lists[0][0, i]
        out = (tops[part, row, low:high], totals[part, row, low:high], sums[part, row, low:high])
        out[1][:] = np.float32(0.0)
        read[part, row, group] = np.float32(count)
        if length > 0:
            lengths = (length, upcoming[3])
            _attend(query[row, low:high], own.keys, own.values, lists, lengths, room, out)
        side = 1 - side
    meet(team)


@helper
def parts_of_step(rows, chosen):
    """The most parts that any row's KV head is cut into; ``chosen`` as of ``attend_parts``."""
    most = 1
    for row in range(chosen.shape[0]):
        for group in range(chosen.shape[1]):
            most = max(most, _pages_and_parts(rows, row, chosen[row, group])[2])
    return most


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
                    weight = exp_nonpositive(tops[part, row, head] - top)
                    total += weight * totals[part, row, head]
                    for d in range(size):
                        mixed[row, head, d] += weight * sums[part, row, head, d]
            for d in range(size):
                mixed[row, head, d] /= total
