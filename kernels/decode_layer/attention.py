"""The attention half of a layer for a few rows, from norm to residual; in Numba.

Norm, projection, rotation, cache write, attention to the pages that are chosen
(``page_attention/chosen_pages.py``), output projection.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from kernels.cpu.compiling import helper
from kernels.cpu.numba_helpers import copy_rows, narrow
from kernels.cpu.numba_rows import add_update, norm_row, rotate_row
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
def _finish_heads(heads, weights, angles, num_kv_heads, scale):
    """Bias, norms, rotation and scale of [R, H + 2·Hkv, D], in place."""
    num_rows, num_heads, size = heads.shape
    first_key, first_value = num_heads - 2 * num_kv_heads, num_heads - num_kv_heads
    bias = weights.query_key_value_bias
    for row in range(num_rows):
        for head in range(num_heads):
            line = heads[row, head]
            if bias.shape[0] > 0:
                for d in range(size):
                    line[d] += bias[head * size + d]
            if head < first_value:
                is_query = head < first_key
                if weights.query_norm.shape[0] > 0:
                    norm = weights.query_norm if is_query else weights.key_norm
                    norm_row(line, norm, weights.epsilon, line)
                factor = scale if is_query else np.float32(1.0)
                rotate_row(line, angles[0, row], angles[1, row], factor, line)


@helper
def _write(keys_values, own, own_tokens, extend):
    """Store each row's new key and value [R, 2·Hkv, D], and take the key among the 4-bit keys."""
    num_rows, both, size = keys_values.shape
    num_kv_heads = both // 2
    for row in range(num_rows):
        slot = own_tokens[row]
        for head in range(num_kv_heads):
            pair = row * num_kv_heads + head
            line = pair * own.capacity + slot
            for d in range(size):
                own.keys[line, d] = narrow(keys_values[row, head, d], own.keys)
                own.values[line, d] = narrow(keys_values[row, num_kv_heads + head, d], own.values)
            if extend:
                octet = pair * own.octet_capacity + slot // OCTET
                encode_key(own.keys, line, own.codes, own.scales, octet, slot % OCTET)


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
    num_kv_heads = rows.num_kv_heads
    normed = np.empty_like(hidden)
    if team.member == 0 and observed[2].shape[1] > 0:
        copy_rows(hidden, observed[2])
    for row in range(num_rows):
        norm_row(hidden[row], weights.norm, weights.epsilon, normed[row])
    matrix = weights.query_key_value
    width = matrix.shape[0] if weights.out_major else outputs_of(matrix)
    projected = shaped(scratch.heads, (num_rows, width))
    product(normed, matrix, weights.out_major, projected, team)
    heads = projected.copy().reshape(num_rows, width // size, size)
    _finish_heads(heads, weights, angles, num_kv_heads, rows.scale)
    num_heads = heads.shape[1] - 2 * num_kv_heads
    if team.member == 0:
        _write(heads[:, num_heads:], own, rows.own_tokens, rows.extend)
    meet(team)
    query = np.ascontiguousarray(heads[:, :num_heads])
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
