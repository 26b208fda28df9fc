"""Page-sparse attention of one new token per row on CUDA.

A *tile* is up to BLOCK_M queries that read the same keys: the heads of one KV head's group, times
the rows that share a prefix. Pages that any of them chose (``triton_weighing.py``) are read once.
A sequence is split by taking every ``splits``-th page, so that clusters of chosen pages spread over
programs. Keys are addressed in lines of ``head_size`` numbers: an int64 offset leads to a
sequence, int32 offsets within it (64-bit ones for every number of a tile spilled registers). After
Quest (arXiv:2406.10774) and the split softmax of Flash-Decoding.
"""

from __future__ import annotations

import triton
import triton.language as tl

from kernels.gpu.triton_helpers import (
    BLOCK_SCALARS,
    dot_wide,
    ends_last,
    narrowed,
    only_if,
    sees,
    tile_queries,
)
from kernels.key_codes.triton_kernel import INFINITY
from kernels.page_attention.triton_weighing import is_chosen, softmax_step

LISTED_AT_ONCE = tl.constexpr(256)  # pages


@triton.jit
def list_pages(
    page_keys, thresholds, page_list, chooser, last_chooser, choosers_apart, pages, num_pages,
    split, splits,
):  # fmt: skip
    """List the pages of one split of a block that any of some choosers chose, ascending.

    Args:
        page_keys: [choosers, num_pages] int32, from the block's first page on.
        thresholds: [choosers] int32.
        page_list: int32, written.
        chooser, last_chooser, choosers_apart: the first, the last, and from one to the next.
    Returns: how many there are.
    """
    count = 0
    for start in range(0, tl.cdiv(pages - split, splits), LISTED_AT_ONCE):
        page = split + (start + tl.arange(0, LISTED_AT_ONCE)) * splits
        listed = tl.zeros([LISTED_AT_ONCE], tl.int32)
        for index in range(chooser, last_chooser + 1, choosers_apart):
            keys = tl.load(page_keys + index * num_pages + page, mask=page < pages, other=0)
            threshold = tl.load(thresholds + index).to(tl.uint32, bitcast=True)
            listed = tl.maximum(listed, is_chosen(keys, threshold).to(tl.int32))
        tl.store(page_list + count + tl.cumsum(listed, 0) - 1, page, mask=listed > 0)
        count += tl.sum(listed, 0)
    tl.debug_barrier()
    return count


@triton.jit
def listed_tokens(
    page_list, start, count, split, splits, selecting, page_size, tokens, BLOCK_N: tl.constexpr
):
    """The next BLOCK_N tokens of a split's pages, from its ``start``-th on: their pages, their
    numbers, and whether there is such a token. Without ``selecting`` no list is read."""
    number = start + tl.arange(0, BLOCK_N)
    slot = number // page_size
    listed = slot < count
    chosen = only_if(selecting, listed)
    page = tl.load(page_list + slot, mask=chosen, other=0)
    page = tl.where(chosen, page, split + slot * splits)
    token = page * page_size + number % page_size
    return page, token, listed & (token < tokens)


@triton.jit
def joined_parts(
    parts, tops, sums, index, used, channel, inside, head_size, splits, SPLITS: tl.constexpr
):
    """Attention of queries [M] over all their parts, [M, HEAD] fp32; arguments as below."""
    top = tl.full([index.shape[0]], -INFINITY, tl.float32)
    total = tl.zeros([index.shape[0]], tl.float32)
    joined = tl.zeros([index.shape[0], channel.shape[0]], tl.float32)
    for start in range(0, splits, SPLITS):
        split = start + tl.arange(0, SPLITS)
        at = index[None, :] * splits + split[:, None]
        there = used[None, :] & (split < splits)[:, None]
        here = tl.load(tops + at, mask=there, other=-INFINITY, cache_modifier=".cg")
        new_top = tl.maximum(top, tl.max(here, 0))
        anchor = tl.where(new_top == -INFINITY, 0.0, new_top)
        shrink, weights = tl.exp(top - anchor), tl.exp(here - anchor[None, :])
        part_sums = tl.load(sums + at, mask=there, other=0.0, cache_modifier=".cg")
        total = total * shrink + tl.sum(weights * part_sums, 0)
        where = parts + at[:, :, None] * head_size + channel[None, None, :]
        read = there[:, :, None] & inside[None, None, :]
        part = tl.load(where, mask=read, other=0.0, cache_modifier=".cg")
        joined = joined * shrink[:, None] + tl.sum(weights[:, :, None] * part, 0)
        top = new_top
    return joined / tl.where(used, total, 1.0)[:, None]


@triton.jit(
    do_not_specialize=[
        *BLOCK_SCALARS, "row_lines", "head_lines", "list_width", "first_split", "all_splits",
        "selecting", "joining",
    ]
)  # fmt: skip
def attend_pages(
    query, sources, valid_tokens, heads_per_group, rows_per_source, tiles, tokens, page_size,
    head_size, first_page, num_pages, first_token, mask_width, masked, has_sources,
    keys, values, page_list, page_keys, thresholds, parts, tops, sums, mixed, counters,
    row_lines, head_lines, list_width, first_split, all_splits, selecting, joining,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, HEAD: tl.constexpr, SPLITS: tl.constexpr,
):  # fmt: skip
    """Softmax attention of a tile over its chosen pages of one block and split.

    Args:
        query … has_sources, row_lines, head_lines: as of ``weigh_pages``. keys, values: lines of D.
        page_list: [tiles, Hkv, splits, list_width] int32, written.
        page_keys: [R, Hkv, num_pages] int32. thresholds: [R, Hkv] int32.
        parts: [R, H, all_splits, D] fp32; tops, sums: [R, H, all_splits] fp32; written if there
            are several splits.
        mixed: [R, H, D], written; of several splits, if ``joining``, by a tile's last program.
        counters: [tiles, Hkv] int32 zeros.
        selecting: whether pages were chosen; otherwise all are read.
        SPLITS: that are joined at a time.
    """
    tile, kv_head, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    splits, kv_heads = tl.num_programs(2), tl.num_programs(1)
    _, row, chooser, index, used, line = tile_queries(
        tile, kv_head, tiles, heads_per_group, rows_per_source, sources, row_lines, head_lines,
        has_sources, BLOCK_M,
    )  # fmt: skip
    keys, values = keys + line * head_size, values + line * head_size
    channel = tl.arange(0, HEAD)
    inside = channel < head_size
    outputs = used[:, None] & inside[None, :]
    own = query + index[:, None] * head_size + channel[None, :]
    vector = tl.load(own, mask=outputs, other=0.0)
    threshold = tl.load(thresholds + chooser, mask=only_if(selecting, used), other=0)
    threshold = threshold.to(tl.uint32, bitcast=True)[:, None]
    page_keys += first_page
    page_list += ((tile * kv_heads + kv_head) * splits + split) * list_width
    pages = tl.cdiv(tokens, page_size)
    count = tl.cdiv(pages - split, splits)
    if selecting != 0:
        last_chooser = tl.max(tl.where(used, chooser, 0), 0)
        count = list_pages(
            page_keys, thresholds, page_list, tl.min(chooser, 0), last_chooser, kv_heads, pages,
            num_pages, split, splits,
        )  # fmt: skip
    top = tl.full([BLOCK_M], -INFINITY, tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    sum_of_values = tl.zeros([BLOCK_M, HEAD], tl.float32)
    for start in range(0, count * page_size, BLOCK_N):
        page, token, present = listed_tokens(
            page_list, start, count, split, splits, selecting, page_size, tokens, BLOCK_N
        )
        seen = sees(used, present, row, first_token + token, valid_tokens, mask_width, masked)
        # Only what some query may see is read: the rest may hold anything, and 0 · NaN is NaN.
        needed = (tl.max(seen.to(tl.int32), 0) > 0)[:, None] & inside[None, :]
        where = token[:, None] * head_size + channel[None, :]
        key = tl.load(keys + where, mask=needed, other=0.0)
        at = chooser[:, None] * num_pages + page[None, :]
        bound = tl.load(page_keys + at, mask=only_if(selecting, seen), other=0)
        chose = is_chosen(bound, threshold)
        seen &= tl.where(seen, chose.to(tl.int32), 0) + (1 - selecting) > 0
        scores = dot_wide(vector, tl.trans(key), tl.zeros([BLOCK_M, BLOCK_N], tl.float32))
        scores = tl.where(seen, scores, -INFINITY)
        weights, shrink, top, total = softmax_step(scores, top, total)
        value = tl.load(values + where, mask=needed, other=0.0)
        sum_of_values = dot_wide(weights, value, sum_of_values * shrink[:, None])
    at = mixed + index[:, None] * head_size + channel[None, :]
    if all_splits == 1:
        numbers = sum_of_values / tl.where(used, total, 1.0)[:, None]
        tl.store(at, narrowed(numbers, mixed.dtype.element_ty), mask=outputs)
    else:
        part = index * all_splits + first_split + split
        where = parts + part[:, None] * head_size + channel[None, :]
        tl.store(where, sum_of_values, mask=outputs)
        tl.store(tops + part, top, mask=used)
        tl.store(sums + part, total, mask=used)
        if joining != 0:  # noqa: SIM102  # Triton's "and" runs both sides
            if ends_last(counters + tile * kv_heads + kv_head, splits):
                numbers = joined_parts(
                    parts, tops, sums, index, used, channel, inside, head_size, all_splits, SPLITS
                )
                tl.store(at, narrowed(numbers, mixed.dtype.element_ty), mask=outputs)
