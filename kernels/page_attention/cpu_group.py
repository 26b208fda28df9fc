"""Attention of one row's group of heads to the pages that any of them chose; in Numba.

The heads of a group share keys and values, so that those are widened once for all of them. Pages
are read in octets of up to eight tokens; a head gives no weight to a page that it did not choose.
"""

from __future__ import annotations

import numpy as np

from kernels.cpu.compiling import fast_helper, helper
from kernels.cpu.numba_helpers import exp_nonpositive
from kernels.cpu.numba_softmax import largest
from kernels.cpu.vector_octets import LANES, ROWS, add_octets, dot_octets


@fast_helper
def softmax_in_place(scores, count):
    """Of the first ``count``, in place, not yet divided; returns the sum."""
    top = largest(scores.reshape(1, scores.shape[0]), 0, 0, count)
    total = np.float32(0.0)
    for i in range(count):
        weight = exp_nonpositive(scores[i] - top)
        scores[i] = weight
        total += weight
    return total


@helper
def room_for_octets(tokens, page_size):
    """The most octets that a block of so many tokens has."""
    pages = (tokens + page_size - 1) // page_size
    return pages * ((page_size + ROWS - 1) // ROWS)


@helper
def _list_octets(who, page_before, block, page_size, listed):
    """The octets of one block's pages that a head wants.

    Args:
        who: [P] int64, a bit for each head that wants a page; the block's pages follow
            ``page_before``.
        block: keys, line of the row's first token, tokens.
        listed: [3, n] int64, overwritten: lines of the first tokens, how many there are, and
            which heads want them.
    Returns: how many.
    """
    _, base, tokens = block
    length = 0
    for page in range((tokens + page_size - 1) // page_size):
        some = who[page_before + page]
        if some == 0:
            continue
        end = min(tokens, (page + 1) * page_size)
        for token in range(page * page_size, end, ROWS):
            listed[0, length] = base + token
            listed[1, length] = min(end - token, ROWS)
            listed[2, length] = some
            length += 1
    return length


@helper
def _hide_unseen(valid_tokens, row, token_before, block, listed, length, scores):
    """Scores of listed tokens that the row may not see become −inf.

    Args:
        valid_tokens: [R, S]; the block's tokens follow ``token_before``.
        scores: [V, ≥ 8 · length].
    Returns: how many they are.
    """
    first, hidden = token_before - block[1], 0
    for i in range(length):
        for k in range(listed[1, i]):
            if not valid_tokens[row, first + listed[0, i] + k]:
                hidden += 1
                for v in range(scores.shape[0]):
                    scores[v, ROWS * i + k] = -np.inf
    return hidden


@helper
def attend_group(query, blocks, all_values, who, hidden, page_size, mixed):
    """Softmax attention of a group's heads [V, D] to the pages that each wants.

    Args:
        query: [V, D] float32, D a multiple of ``LANES``.
        blocks: of the shared and the own tokens: keys, line of the row's first token, tokens.
        all_values: of the two blocks.
        who: [P] int64, a bit for each head that wants a page, first those of the shared block.
        hidden: whether tokens are masked, the mask [R, S], the row.
        mixed: [V, D] float32, zeros, overwritten.
    Returns: how many tokens were attended to.
    """
    (shared, own), (masked, valid_tokens, row) = blocks, hidden
    num_heads = query.shape[0]
    rooms = room_for_octets(shared[2], page_size), room_for_octets(own[2], page_size)
    listed_1, listed_2 = np.empty((3, rooms[0]), np.int64), np.empty((3, rooms[1]), np.int64)
    pages_1 = (shared[2] + page_size - 1) // page_size
    length_1 = _list_octets(who, 0, shared, page_size, listed_1)
    length_2 = _list_octets(who, pages_1, own, page_size, listed_2)
    middle, end = ROWS * length_1, ROWS * (length_1 + length_2)
    scores, ones = np.empty((num_heads, end), np.float32), np.ones(num_heads, np.float32)
    late, spans = scores[:, middle:], ((0, length_1), (0, length_2))
    # Values are asked for while their keys are read.
    later_1, later_2 = (all_values[0], listed_1[0]), (all_values[1], listed_2[0])
    dot_octets(shared[0], listed_1, spans[0], later_1, query, scores, LANES)
    dot_octets(own[0], listed_2, spans[1], later_2, query, late, LANES)
    read = listed_1[1, :length_1].sum() + listed_2[1, :length_2].sum()
    if masked:
        read -= _hide_unseen(valid_tokens, row, 0, shared, listed_1, length_1, scores)
        read -= _hide_unseen(valid_tokens, row, shared[2], own, listed_2, length_2, late)
    totals = np.empty(num_heads, np.float32)
    for v in range(num_heads):
        totals[v] = softmax_in_place(scores[v], end)
    add_octets(all_values[0], listed_1, spans[0], later_1, scores, ones, mixed, LANES)
    add_octets(all_values[1], listed_2, spans[1], later_2, late, ones, mixed, LANES)
    for v in range(num_heads):
        for d in range(mixed.shape[1]):
            mixed[v, d] /= totals[v]
    return read
