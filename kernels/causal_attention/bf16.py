"""Causal attention of many new tokens in bfloat16 on the CPU: scores never leave the core's cache.

A task is some queries of one key-value head, which read keys and values tile by tile with an
online softmax (Dao et al., arXiv:2205.14135). The heads of a group are done together.
"""

import numba
import numpy as np

from kernels.causal_attention.cpu import hide
from kernels.causal_attention.pairs import has_tiles, leave_tiles, multiply_pairs, use_tiles
from kernels.causal_attention.softmax import weigh_pairs
from kernels.cpu.compiling import helper, team_kernel
from kernels.cpu.numba_helpers import narrow
from kernels.cpu.vector_softmax import LEAST

QUERIES = 16  # tokens of a task
TILE = 128  # tokens whose keys are read at a time
_APART = TILE // 2  # tokens whose values are multiplied in a pair


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
        packed_keys: [R · heads, tiles, D / 2, TILE] uint32, overwritten: neighbouring columns.
        packed_values: [R · heads, tiles, TILE / 2, D] uint32, overwritten: tokens half a tile
            apart; zeros past the last.
    """
    row_lines, head_lines, num_heads, num_tokens = sizes
    tiles, size = packed_keys.shape[1], packed_values.shape[3]
    for task in numba.prange(packed_keys.shape[0] * tiles):
        pair, tile = task // tiles, task % tiles
        line = pair // num_heads * row_lines + pair % num_heads * head_lines + tile * TILE
        count = min(TILE, num_tokens - tile * TILE)
        for t in range(TILE):
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
def _attend(vectors, keys, values, span, first, per_group, window, shapes, out):
    """Attend queries to the tokens up to themselves; returns their sums of weights.

    Args:
        vectors: [V, D / 2] uint32, scaled queries; query i is token first + i // per_group.
        keys, values: the head's, as ``pack_pairs`` makes them.
        span: tiles that some of the queries see.
        out: [V, D] float32, zeros; overwritten.
    """
    count = vectors.shape[0]
    scores, weights = np.empty((count, TILE), np.float32), np.empty((count, _APART), np.uint32)
    tops, fades = np.empty(count, np.float32), np.empty(count, np.float32)
    totals = np.zeros(count, np.float32)
    tops[:] = LEAST
    for tile in range(span[0], span[1]):
        multiply_pairs(vectors, keys[tile], None, scores, shapes)
        begin = tile * TILE
        if begin + TILE > first or window > 0:
            hide(scores, per_group, first, begin, begin + TILE, window)
        weigh_pairs(scores, tops, totals, fades, weights)
        multiply_pairs(weights, values[tile], fades, out, shapes)
    return totals


@helper
def _attend_task(query, keys, values, sizes, task, shapes, mixed):
    first, num_kv_heads, window = sizes
    _, num_tokens, num_heads, half = query.shape
    per_group = num_heads // num_kv_heads
    blocks = (num_tokens + QUERIES - 1) // QUERIES
    pair, block = task // blocks, task % blocks
    # Late tokens see more: early and late ones in turns are as much work for each thread.
    block = block // 2 if block % 2 == 0 else blocks - 1 - block // 2
    row, low = pair // num_kv_heads, pair % num_kv_heads * per_group
    begin, end = block * QUERIES, min(num_tokens, (block + 1) * QUERIES)
    vectors = np.zeros((QUERIES * per_group, half), np.uint32)
    out = np.zeros((QUERIES * per_group, 2 * half), np.float32)
    used = (end - begin) * per_group
    for v in range(used):
        for d in range(half):
            vectors[v, d] = query[row, begin + v // per_group, low + v % per_group, d]
    start = max(0, first + begin + 1 - window) // TILE if window > 0 else 0
    span = start, (first + end + TILE - 1) // TILE
    some = keys[pair], values[pair], span, first + begin
    totals = _attend(vectors, *some, per_group, window, shapes, out)
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
    blocks = (num_tokens + QUERIES - 1) // QUERIES
    for task in numba.prange(num_rows * sizes[1] * blocks):
        use_tiles(shapes)
        _attend_task(query, keys, values, sizes, task, shapes, mixed)
        leave_tiles(shapes)
