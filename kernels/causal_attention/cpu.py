"""Causal attention of many new tokens on the CPU, in Numba: scores never leave the core's cache.

A task is some queries of one key-value head, which read keys and values tile by tile with an
online softmax (Dao et al., arXiv:2205.14135). The heads of a group are done together.
"""

import numba
import numpy as np

from kernels.cpu.compiling import helper, team_kernel
from kernels.cpu.numba_helpers import exp_nonpositive, narrow
from kernels.cpu.vector_octets import LANES, ROWS, add_octets, dot_octets
from kernels.cpu.vector_softmax import LEAST, largest, weigh

_QUERIES = 16  # tokens of a task
_TILE = 256  # tokens whose keys are read at a time: 32 kB


@helper
def _list_octets(line, begin, end, size, listed):
    """Octets of the tokens from begin to end, as ``dot_octets`` takes them; returns how many."""
    count = (end - begin + ROWS - 1) // ROWS
    for i in range(count):
        listed[0, i] = min(ROWS, end - begin - ROWS * i)
        listed[1, i] = listed[2, i] = (line + begin + ROWS * i) * size
    return count


@helper
def hide(scores, per_group, first, begin, end, window):
    """−inf for what each query, of tokens ``first`` and on, does not see of [begin, end)."""
    for query in range(scores.shape[0] // per_group):
        token = first + query
        for head in range(query * per_group, (query + 1) * per_group):
            for column in range(max(0, token + 1 - begin), end - begin):
                scores[head, column] = -np.inf
            if window > 0:
                for column in range(min(end, token + 1 - window) - begin):
                    scores[head, column] = -np.inf


@helper
def _attend(vectors, keys, values, line, first, window, room, mixed):
    """Attend queries to the tokens up to themselves.

    Args:
        vectors: [queries · heads of the group, D] float32, scaled; query i is token first + i.
        keys, values: [X, D]; token 0 is at ``line``.
        window: tokens that a query sees; 0 for all.
        room: [3, n] int64, scores [V, n], tops, totals and fades [V] float32; overwritten.
        mixed: [V, D] float32, overwritten.
    """
    listed, scores, tops, totals, fades = room
    num_vectors = vectors.shape[0]
    per_group = tops.shape[0] // _QUERIES
    last = first + num_vectors // per_group
    start = max(0, first + 1 - window) // ROWS * ROWS if window > 0 else 0
    tops[:], totals[:] = LEAST, np.float32(0.0)
    mixed[:] = np.float32(0.0)
    for begin in range(start, last, _TILE):
        end = min(last, begin + _TILE)
        octets = _list_octets(line, begin, end, vectors.shape[1], listed)
        span, count = (0, octets), ROWS * octets
        dot_octets(keys, listed, span, (values, listed[1]), vectors, scores, LANES)
        hide(scores[:num_vectors], per_group, first, begin, end, window)
        for v in range(num_vectors):
            top = max(tops[v], largest(scores, v, 0, count))
            fades[v] = exp_nonpositive(tops[v] - top)
            tops[v] = top
            totals[v] = totals[v] * fades[v] + weigh(scores, v, 0, count, top)
        add_octets(values, listed, span, (values, listed[1]), scores, fades, mixed, LANES)


@team_kernel
def attend_causally(query, keys, values, sizes, mixed):
    """``causal_attention`` of every row and head.

    Args:
        query: [R, T, H, D] float32, contiguous, scaled; D a multiple of ``LANES``.
        keys, values: [X, D]; float32, or bfloat16 as uint16 bit patterns.
        sizes: position of the first new token, lines between two rows and between two
            key-value heads, how many those are, and the window, 0 for none.
        mixed: [R, T, H, D] of the keys' type, overwritten.
    """
    first, row_lines, head_lines, num_kv_heads, window = sizes
    num_rows, num_tokens, num_heads, size = query.shape
    per_group = num_heads // num_kv_heads
    blocks = (num_tokens + _QUERIES - 1) // _QUERIES
    for task in numba.prange(num_rows * num_kv_heads * blocks):
        pair, block = task // blocks, task % blocks
        # Late tokens see more: early and late ones in turns are as much work for each thread.
        block = block // 2 if block % 2 == 0 else blocks - 1 - block // 2
        row, head = pair // num_kv_heads, pair % num_kv_heads
        begin, end = block * _QUERIES, min(num_tokens, (block + 1) * _QUERIES)
        low, most, num_vectors = head * per_group, _QUERIES * per_group, (end - begin) * per_group
        vectors, out = np.empty((most, size), np.float32), np.empty((most, size), np.float32)
        for v in range(num_vectors):
            for d in range(size):
                vectors[v, d] = query[row, begin + v // per_group, low + v % per_group, d]
        room = (
            np.empty((3, _TILE // ROWS), np.int64),
            np.empty((most, _TILE), np.float32),
            np.empty(most, np.float32),
            np.empty(most, np.float32),
            np.empty(most, np.float32),
        )
        line = row * row_lines + head * head_lines
        some = vectors[:num_vectors]
        _attend(some, keys, values, line, first + begin, window, room, out[:num_vectors])
        for v in range(num_vectors):
            factor = np.float32(1.0) / room[3][v]
            for d in range(size):
                number = narrow(out[v, d] * factor, mixed)
                mixed[row, begin + v // per_group, low + v % per_group, d] = number
