"""The attention half of a layer for a few rows, from norm to residual; in Numba.

Norm, projection, rotation, cache write, attention to the pages that are chosen
(``page_attention/chosen_pages.py``), output projection.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from kernels.cpu.compiling import helper
from kernels.cpu.numba_helpers import add_update, copy_rows, narrow, norm_row, rotate_row
from kernels.cpu.team import meet
from kernels.decode_layer.products import outputs_of, product
from kernels.key_codes import OCTET
from kernels.key_codes.cpu import encode_key
from kernels.page_attention.chosen_pages import attend_pages
from kernels.page_attention.group_attention import merge
from kernels.page_attention.scratch import shaped


class AttentionWeights(NamedTuple):
    """One layer's; matrices are float32, bfloat16 as uint16 bit patterns, or quantised."""

    norm: Any  # [C] float32
    query_key_value: Any  # [(H + 2·Hkv)·D, C] if ``out_major``, else transposed
    query_key_value_bias: Any  # float32, empty for none
    query_norm: Any  # [D] float32, empty for none
    key_norm: Any  # likewise
    output: Any  # [C, H·D] if ``out_major``, else transposed
    output_bias: Any  # float32, empty for none
    output_norm: Any  # [C] float32, empty for none
    out_major: bool
    epsilon: Any


@helper
def _finish_head(line, first, weights, norm, angles, factor):
    """Bias, norm, rotation and a factor of a query or key [D], in place.

    Args:
        first: channel of the biases that is the head's first.
        norm: [D] float32, empty for none.
        angles: [2, D].
    """
    _add_bias(line, first, weights)
    if norm.shape[0] > 0:
        norm_row(line, norm, weights.epsilon, line)
    rotate_row(line, angles[0], angles[1], factor, line)


@helper
def _add_bias(line, first, weights):
    for d in range(min(line.shape[0], weights.query_key_value_bias.shape[0])):
        line[d] += weights.query_key_value_bias[first + d]


@helper
def _finish_heads(heads, weights, angles, own, rows, team):
    """Finish the queries, keys and values [R, H + 2·Hkv, D] of some KV heads, in place, and store
    their keys and values; the members meet when all are done."""
    num_rows, num_heads, size = heads.shape
    first_key, first_value = num_heads - 2 * rows.num_kv_heads, num_heads - rows.num_kv_heads
    per_group = first_key // rows.num_kv_heads
    for pair in range(team.member, num_rows * rows.num_kv_heads, team.members):
        row, group = pair // rows.num_kv_heads, pair % rows.num_kv_heads
        turned, norm = angles[:, row], weights.query_norm
        for head in range(group * per_group, (group + 1) * per_group):
            _finish_head(heads[row, head], head * size, weights, norm, turned, rows.scale)
        head, factor = first_key + group, np.float32(1.0)
        key, value = heads[row, head], heads[row, first_value + group]
        _finish_head(key, head * size, weights, weights.key_norm, turned, factor)
        _add_bias(value, (first_value + group) * size, weights)
        slot = rows.own_tokens[row]
        line = pair * own.capacity + slot
        for d in range(size):
            own.keys[line, d] = narrow(key[d], own.keys)
            own.values[line, d] = narrow(value[d], own.values)
        if rows.extend:
            octet = pair * own.octet_capacity + slot // OCTET
            encode_key(own.keys, line, own.codes, own.scales, octet, slot % OCTET)
    meet(team)


@helper
def attention_rows(hidden, weights, blocks, rows, angles, observed, scratch, team):
    """Add the attention of one decode step to the residual stream, and write the cache.

    Args:
        hidden: [R, C] float32, contiguous, this member's own, changed.
        weights: AttentionWeights.
        blocks: two CacheBlock: the rows' own, which gets the new keys and values, and the
            shared one (the own one again where nothing is shared).
        rows: StepRows.
        angles: [2, R, D] float32, cosine and sine of each row's position.
        observed: as of ``attend_pages``; and queries [R, H, D] and the stream [R, C] as it was,
            float32, overwritten, or [..., 0].
        scratch: Scratch, the team's.
    """
    own = blocks[0]
    num_rows, size = hidden.shape[0], own.keys.shape[1]
    normed = np.empty_like(hidden)
    if team.member == 0 and observed[2].shape[1] > 0:
        copy_rows(hidden, observed[2])
    for row in range(num_rows):
        norm_row(hidden[row], weights.norm, weights.epsilon, normed[row])
    matrix = weights.query_key_value
    width = matrix.shape[0] if weights.out_major else outputs_of(matrix)
    projected = shaped(scratch.heads, (num_rows, width))
    product(normed, matrix, weights.out_major, projected, team)
    heads = projected.reshape(num_rows, width // size, size)
    _finish_heads(heads, weights, angles, own, rows, team)
    num_heads = heads.shape[1] - 2 * rows.num_kv_heads
    query = heads[:, :num_heads].copy()
    if team.member == 0 and observed[1].shape[2] > 0:
        observed[1][:] = query
    partial = attend_pages(query, blocks, rows, observed[0], scratch, team)
    mixed = np.empty((num_rows, num_heads, size), np.float32)
    merge(partial, (0, num_rows), mixed)
    update = shaped(scratch.update, hidden.shape)
    attended = mixed.reshape(num_rows, num_heads * size)
    product(attended, weights.output, weights.out_major, update, team)
    copy_rows(update, normed)
    for row in range(num_rows):
        for channel in range(weights.output_bias.shape[0]):
            normed[row, channel] += weights.output_bias[channel]
        add_update(hidden[row], normed[row], weights.output_norm, weights.epsilon)
