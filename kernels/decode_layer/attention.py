"""The attention half of a layer for a few rows, from norm to residual; in Numba.

Norm, projection, rotation, cache write, page choice, attention over the chosen pages,
output projection. The attention to the chosen pages itself is ``group_attention.py``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from kernels.cpu.compiling import helper
from kernels.cpu.numba_helpers import copy_rows, narrow, widen
from kernels.cpu.numba_rows import norm_row
from kernels.cpu.team import meet
from kernels.decode_layer.group_attention import attend_parts, merge, parts_for
from kernels.decode_layer.page_choice import seen_pages
from kernels.decode_layer.page_mass import find_pages_by_mass
from kernels.decode_layer.page_search import find_pages
from kernels.decode_layer.products import outputs_of, product
from kernels.key_codes.cpu import encode_key
from kernels.key_codes.reference import OCTET


class AttentionWeights(NamedTuple):
    """One layer's; matrices are float32, bfloat16 as uint16 bit patterns, or quantised.

    Attributes:
        norm: [C] float32.
        query_key_value: [(H + 2·Hkv)·D, C] if ``out_major``, else transposed; bias
            float32, empty for none.
        query_norm, key_norm: [D] float32, empty for none.
        output: [C, H·D] if ``out_major``, else transposed; bias likewise.
        output_norm: [C] float32, empty for none.
    """

    norm: Any
    query_key_value: Any
    query_key_value_bias: Any
    query_norm: Any
    key_norm: Any
    output: Any
    output_bias: Any
    output_norm: Any
    out_major: bool
    epsilon: Any


class CacheBlock(NamedTuple):
    """Keys and values of sequences side by side; token t of (sequence, head) pair n is
    line ``n · capacity + t``, its page's bounds are line ``n · page_capacity + t // page size``.

    Attributes:
        keys, values: [X, D] float32, or bfloat16 as uint16 bit patterns.
        page_min, page_max: [Y, D] of the same type.
        codes, scales: [Z, 4 D] uint8 and [Z, 16] uint16, octets of 4-bit keys; octet t // 8 of
            pair n is line ``n · octet_capacity + t // 8``.
    """

    keys: Any
    values: Any
    page_min: Any
    page_max: Any
    capacity: int
    page_capacity: int
    codes: Any
    scales: Any
    octet_capacity: int


class StepRows(NamedTuple):
    """Pages and tokens that each of R rows may read at this step; int64 arrays [R].

    Attributes:
        sources: sequence of the shared block that the row continues.
        shared_tokens: how many of its tokens, whole pages; 0 without a shared block.
        own_tokens: in the row's own memory, before this step's.
        first_seen: first token, counted through both blocks, that attention sees.
        pages_kept: pages that each head reads; with floors, all or one at least.
        floors: [R] float32, see ``AttentionPlan``; they count if ``by_need``.
        page_size: tokens per page.
        num_kv_heads: Hkv.
        scale: float32 factor on query·key.
        extend: take the new key into its page's bounds, or among the 4-bit keys.
        by_mass: pages are chosen by their mass under 4-bit keys and for KV groups; else by
            bounds and for each head.
        by_need: rows that do not keep all pages read those whose need reaches the floor.
        best_share: of the pages, for the mass outside; 0 when it is not asked for.
    """

    sources: Any
    shared_tokens: Any
    own_tokens: Any
    first_seen: Any
    pages_kept: Any
    floors: Any
    page_size: int
    num_kv_heads: int
    scale: Any
    extend: bool
    by_mass: bool
    by_need: bool
    best_share: float


@helper
def _rotate(head, cosine, sine, scale):
    """Rotate one head [D] in place and scale it."""
    half = head.shape[0] // 2
    for d in range(half):
        first, second = head[d], head[half + d]
        head[d] = (first * cosine[d] - second * sine[d]) * scale
        head[half + d] = (second * cosine[half + d] + first * sine[half + d]) * scale


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
                _rotate(line, angles[0, row], angles[1, row], factor)


@helper
def _write(keys_values, own, own_tokens, page_size, extend, by_mass):
    """Store each row's new key and value [R, 2·Hkv, D], and take the key into the bounds or
    among the 4-bit keys."""
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
            if extend and by_mass:
                octet = pair * own.octet_capacity + slot // OCTET
                encode_key(own.keys, line, own.codes, own.scales, octet, slot % OCTET)
            elif extend:
                page = pair * own.page_capacity + slot // page_size
                for d in range(size):
                    key = own.keys[line, d]
                    if widen(key) < widen(own.page_min[page, d]):
                        own.page_min[page, d] = key
                    if widen(key) > widen(own.page_max[page, d]):
                        own.page_max[page, d] = key


@helper
def _add_update(hidden, update, weights):
    """hidden += the attention's output, after its bias and norm."""
    for row in range(hidden.shape[0]):
        if weights.output_bias.shape[0] > 0:
            for channel in range(hidden.shape[1]):
                update[row, channel] += weights.output_bias[channel]
        if weights.output_norm.shape[0] > 0:
            norm_row(update[row], weights.output_norm, weights.epsilon, update[row])
        for channel in range(hidden.shape[1]):
            hidden[row, channel] += update[row, channel]


@helper
def _note_readers(chosen, rows, readers):
    """Number of key-value heads that read each page: any of their query heads chose it."""
    per_group = chosen.shape[1] // rows.num_kv_heads
    for row in range(chosen.shape[0]):
        tokens = rows.shared_tokens[row], rows.own_tokens[row]
        first, last = seen_pages(tokens[0], tokens[1], rows.first_seen[row], rows.page_size)
        if rows.pages_kept[row] >= last - first:
            readers[row, first:last] = rows.num_kv_heads
            continue
        for head in range(0, chosen.shape[1], per_group):
            for page in range(last - first):
                readers[row, first + page] += chosen[row, head : head + per_group, page].max()


@helper
def _note_tokens(read, tokens):
    """tokens[r] = the sum of read [N, R, Hkv], float32."""
    tokens[:] = 0
    for part in range(read.shape[0]):
        for row in range(read.shape[1]):
            for head in range(read.shape[2]):
                tokens[row] += np.int64(read[part, row, head])


@helper
def _note_concentration(outside, concentration):
    """Heads' mean of the mass outside the best pages [R, H], by row [R]."""
    for row in range(outside.shape[0]):
        concentration[row] = outside[row].sum() / np.float32(outside.shape[1])


@helper
def _chosen_pages(query, blocks, rows, scratch, team):
    """Pages that each head reads [R, H, P] uint8, for rows that do not keep all, and the most of
    them that a row sees."""
    num_rows, num_heads, _ = query.shape
    most, sparse = 0, rows.best_share > 0
    for row in range(num_rows):
        shared_tokens, own_tokens = rows.shared_tokens[row], rows.own_tokens[row]
        first, last = seen_pages(shared_tokens, own_tokens, rows.first_seen[row], rows.page_size)
        most, sparse = max(most, last - first), sparse or rows.pages_kept[row] < last - first
    shape, size = (num_rows, num_heads, most), num_rows * num_heads * most
    chosen = scratch.chosen[:size].reshape(shape)
    if sparse:
        outside = scratch.outside.reshape(num_rows, num_heads)
        scores = scratch.scores[:size].reshape(shape)
        if rows.by_mass:
            parts = parts_for(most, rows.page_size)
            per_part, count = (parts, num_rows, num_heads), parts * outside.size
            tops = scratch.page_tops[:count].reshape(per_part)
            totals = scratch.page_totals[:count].reshape(per_part)
            find_pages_by_mass(query, blocks, rows, (tops, totals, scores), chosen, outside, team)
        else:
            find_pages(query, blocks, rows, scores, chosen, outside, team)
    return chosen, most


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
        observed: concentration [R] float32, overwritten with the heads' mean of the mass outside
            the best pages if ``rows.best_share`` is above 0; readers [R, P] uint8, zeros,
            overwritten with how many key-value heads read each page, if there is room for any; and
            tokens [R] int64, overwritten with how many were read, summed over these heads.
        scratch: Scratch, the team's.
    """
    own, (concentration, readers, tokens) = blocks[0], observed
    num_rows, size = hidden.shape[0], own.keys.shape[1]
    num_kv_heads = rows.num_kv_heads
    normed = np.empty_like(hidden)
    for row in range(num_rows):
        norm_row(hidden[row], weights.norm, weights.epsilon, normed[row])
    matrix = weights.query_key_value
    width = matrix.shape[0] if weights.out_major else outputs_of(matrix)
    projected = scratch.heads[: num_rows * width].reshape(num_rows, width)
    product(normed, matrix, weights.out_major, projected, team)
    heads = projected.copy().reshape(num_rows, width // size, size)
    _finish_heads(heads, weights, angles, num_kv_heads, rows.scale)
    num_heads = heads.shape[1] - 2 * num_kv_heads
    if team.member == 0:
        new = heads[:, num_heads:]
        _write(new, own, rows.own_tokens, rows.page_size, rows.extend, rows.by_mass)
    meet(team)
    query = np.ascontiguousarray(heads[:, :num_heads])
    chosen, most = _chosen_pages(query, blocks, rows, scratch, team)
    if team.member == 0:
        if rows.best_share > 0:
            _note_concentration(scratch.outside.reshape(num_rows, num_heads), concentration)
        if readers.shape[1] > 0:
            _note_readers(chosen, rows, readers)
    slots = 2 * parts_for(most, rows.page_size)
    shape, count = (slots, num_rows, num_heads), slots * num_rows * num_heads
    partial = (
        scratch.tops[:count].reshape(shape),
        scratch.totals[:count].reshape(shape),
        scratch.sums[: count * size].reshape(slots, num_rows, num_heads, size),
        scratch.read[: slots * num_rows * num_kv_heads].reshape(slots, num_rows, num_kv_heads),
    )
    attend_parts(query, blocks, rows, chosen, partial, team)
    if team.member == 0:
        _note_tokens(partial[3], tokens)
    mixed = np.empty((num_rows, num_heads, size), np.float32)
    merge(partial, mixed)
    update = scratch.update[: hidden.size].reshape(hidden.shape)
    attended = mixed.reshape(num_rows, num_heads * size)
    product(attended, weights.output, weights.out_major, update, team)
    copy_rows(update, normed)
    _add_update(hidden, normed, weights)
