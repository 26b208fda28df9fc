"""Causal attention of many new tokens on the CPU, in Numba: scores never leave the core's cache.

A task is some queries of one key-value head, which read keys and values tile by tile with an
online softmax (Dao et al., arXiv:2205.14135). The heads of a group are done together. Numbers are
multiplied one by one, or in pairs of bfloat16 (``pairs.py``).
"""

import numba
import numpy as np

from kernels.causal_attention.pairs import (
    has_tiles,
    leave_tiles,
    multiply_pairs,
    use_tiles,
    weigh_pairs,
)
from kernels.cpu.compiling import helper, team_kernel
from kernels.cpu.numba_helpers import exp_nonpositive, narrow
from kernels.cpu.vector_octets import LANES, ROWS, add_octets, dot_octets
from kernels.cpu.vector_softmax import LEAST, largest, weigh

_QUERIES = 16  # tokens of a task
_TILE = 256  # tokens whose keys are read at a time: 32 kB
PAIR_TILE = 128  # the same in pairs
_APART = PAIR_TILE // 2  # tokens whose values are multiplied in a pair


@helper
def _list_octets(line, begin, end, size, listed):
    """Octets of the tokens from begin to end, as ``dot_octets`` takes them; returns how many."""
    count = (end - begin + ROWS - 1) // ROWS
    for i in range(count):
        listed[0, i] = min(ROWS, end - begin - ROWS * i)
        listed[1, i] = listed[2, i] = (line + begin + ROWS * i) * size
    return count


@helper
def _hide(scores, per_group, first, begin, end, window):
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
        _hide(scores[:num_vectors], per_group, first, begin, end, window)
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


def tile_shapes():
    """[64] uint8: 64 bytes in each of sixteen rows of each of eight tiles; None without any."""
    if not has_tiles():
        return None
    shapes = np.zeros(64, np.uint8)
    shapes[0] = 1  # the only palette
    shapes[16:32:2] = 64
    shapes[48:56] = 16
    return shapes


@team_kernel
def pack_pairs(keys, values, sizes, packed_keys, packed_values):
    """Keys and values of every key-value head as ``multiply_pairs`` takes them, tile by tile.

    Args:
        keys, values: [X, D] bfloat16 as uint16 bit patterns.
        sizes: lines between two rows and between two heads, heads, and tokens.
        packed_keys: [R · heads, tiles, D / 2, PAIR_TILE] uint32, overwritten: neighbouring columns.
        packed_values: [R · heads, tiles, PAIR_TILE / 2, D] uint32, overwritten: tokens half a tile
            apart; zeros past the last.
    """
    row_lines, head_lines, num_heads, num_tokens = sizes
    tiles, size = packed_keys.shape[1], packed_values.shape[3]
    for task in numba.prange(packed_keys.shape[0] * tiles):
        pair, tile = task // tiles, task % tiles
        line = pair // num_heads * row_lines + pair % num_heads * head_lines + tile * PAIR_TILE
        count = min(PAIR_TILE, num_tokens - tile * PAIR_TILE)
        for t in range(PAIR_TILE):
            for j in range(size // 2):
                both = np.uint32(0)
                if t < count:
                    low, high = keys[line + t, 2 * j], keys[line + t, 2 * j + 1]
                    both = np.uint32(low) | (np.uint32(high) << np.uint32(16))
                packed_keys[pair, tile, j, t] = both
        for t in range(_APART):
            for d in range(size):
                low = high = np.uint32(0)
                if t < count:
                    low = np.uint32(values[line + t, d])
                if t + _APART < count:
                    high = np.uint32(values[line + t + _APART, d])
                packed_values[pair, tile, t, d] = low | (high << np.uint32(16))


@helper
def _attend_pairs(vectors, keys, values, span, first, per_group, window, shapes, out):
    """Attend queries to the tokens up to themselves; returns their sums of weights.

    Args:
        vectors: [V, D / 2] uint32, scaled queries; query i is token first + i // per_group.
        keys, values: the head's, as ``pack_pairs`` makes them.
        span: tiles that some of the queries see.
        out: [V, D] float32, zeros; overwritten.
    """
    count = vectors.shape[0]
    scores, weights = np.empty((count, PAIR_TILE), np.float32), np.empty((count, _APART), np.uint32)
    tops, fades = np.empty(count, np.float32), np.empty(count, np.float32)
    totals = np.zeros(count, np.float32)
    tops[:] = LEAST
    for tile in range(span[0], span[1]):
        multiply_pairs(vectors, keys[tile], None, scores, shapes)
        begin = tile * PAIR_TILE
        if begin + PAIR_TILE > first or window > 0:
            _hide(scores, per_group, first, begin, begin + PAIR_TILE, window)
        weigh_pairs(scores, tops, totals, fades, weights)
        multiply_pairs(weights, values[tile], fades, out, shapes)
    return totals


@helper
def _attend_task(query, keys, values, sizes, task, shapes, mixed):
    first, num_kv_heads, window = sizes
    _, num_tokens, num_heads, half = query.shape
    per_group = num_heads // num_kv_heads
    blocks = (num_tokens + _QUERIES - 1) // _QUERIES
    pair, block = task // blocks, task % blocks
    # Late tokens see more: early and late ones in turns are as much work for each thread.
    block = block // 2 if block % 2 == 0 else blocks - 1 - block // 2
    row, low = pair // num_kv_heads, pair % num_kv_heads * per_group
    begin, end = block * _QUERIES, min(num_tokens, (block + 1) * _QUERIES)
    vectors = np.zeros((_QUERIES * per_group, half), np.uint32)
    out = np.zeros((_QUERIES * per_group, 2 * half), np.float32)
    used = (end - begin) * per_group
    for v in range(used):
        for d in range(half):
            vectors[v, d] = query[row, begin + v // per_group, low + v % per_group, d]
    start = max(0, first + begin + 1 - window) // PAIR_TILE if window > 0 else 0
    span = start, (first + end + PAIR_TILE - 1) // PAIR_TILE
    some = keys[pair], values[pair], span, first + begin
    totals = _attend_pairs(vectors, *some, per_group, window, shapes, out)
    for v in range(used):
        part = np.float32(1.0) / totals[v]
        for d in range(2 * half):
            number = narrow(out[v, d] * part, mixed)
            mixed[row, begin + v // per_group, low + v % per_group, d] = number


@team_kernel
def attend_in_pairs(query, keys, values, sizes, shapes, mixed):
    """``causal_attention`` of every row and head.

    Args:
        query: [R, T, H, D / 2] uint32, pairs of bfloat16, scaled.
        keys, values: as ``pack_pairs`` makes them.
        sizes: position of the first new token, key-value heads, and the window, 0 for none.
        shapes: ``tile_shapes()`` for a matrix unit, or None.
        mixed: [R, T, H, D] bfloat16 as uint16 bit patterns, overwritten.
    """
    num_rows, num_tokens, _, _ = query.shape
    blocks = (num_tokens + _QUERIES - 1) // _QUERIES
    for task in numba.prange(num_rows * sizes[1] * blocks):
        use_tiles(shapes)
        _attend_task(query, keys, values, sizes, task, shapes, mixed)
        leave_tiles(shapes)
