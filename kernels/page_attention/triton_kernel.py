"""Page-sparse attention of one new token per row on CUDA: small kernels.

``weigh_pages`` of ``kernels/key_codes`` sums up the mass of every page for each head;
``choose_pages`` makes one score of a KV group's heads and finds its pages without leaving the
device, ``list_pages`` joins the choices of all queries that share keys, ``attend_pages`` reads each
listed page once for all of them, and ``merge_splits`` joins parts of the sequence. A *tile* is up
to BLOCK_M queries that read the same keys: the heads of one KV head's group, times the rows that
share a prefix. A sequence is split by taking every ``splits``-th page, so that clusters of chosen
pages spread over programs.
Keys are addressed in lines of ``head_size`` numbers: an int64 offset leads to a sequence,
int32 offsets within it (64-bit ones for every number of a tile spilled registers). After
Quest (arXiv:2406.10774) and the split softmax of Flash-Decoding.
"""

from __future__ import annotations

import triton
import triton.language as tl

from kernels.gpu.triton_helpers import (
    BLOCK_SCALARS,
    dot_wide,
    find_threshold,
    first_line,
    float_of,
    narrowed,
    only_if,
    ordered_bits,
    tile_queries,
)

INFINITY = tl.constexpr(float("inf"))
COUNTED_AT_ONCE = tl.constexpr(256)  # pages whose tokens are summed up


@triton.jit(do_not_specialize=["num_kv_heads", "members", "noting", "num_pages"])
def choose_pages(
    page_keys, group_keys, pages_kept, floors, tokens_per_page, thresholds, tokens_read, readings,
    num_kv_heads, members, noting, num_pages, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """The pages that each KV group needs, as a threshold; see ``reference.select_needed``.

    A group weighs pages by the mean of its heads' softmax over pages.

    Args:
        page_keys: [R, Hkv, members, num_pages] int32.
        group_keys: [R, Hkv, num_pages] int32, written.
        pages_kept: [R] int64. floors: [R] fp32. tokens_per_page: [R, num_pages] int64.
        thresholds: [R, Hkv] int32, written.
        tokens_read: [R, Hkv] int64, written: how many the chosen pages have.
        readings: [R, Hkv, num_pages] uint8, written if ``noting``: 1 for the chosen pages.
    """
    index = tl.program_id(0).to(tl.int64)
    row = index // num_kv_heads
    page = tl.arange(0, BLOCK_P)
    inside = page < num_pages
    page_keys += index * members * num_pages
    shares = tl.zeros([BLOCK_P], tl.float32)
    for member in range(0, members):
        keys = tl.load(page_keys + member * num_pages + page, mask=inside, other=0)
        keys = keys.to(tl.uint32, bitcast=True)
        weight = tl.where(keys > 0, float_of(keys), -INFINITY)
        weight = tl.exp(weight - tl.max(weight, 0))
        shares += weight / tl.sum(weight, 0)
    shares /= members
    valid = tl.load(page_keys + page, mask=inside, other=0) != 0
    keys = tl.where(valid, ordered_bits(shares), 0).to(tl.uint32)
    group_keys += index * num_pages
    tl.store(group_keys + page, keys.to(tl.int32, bitcast=True), mask=inside)
    kept = tl.load(pages_kept + row)
    count = tl.sum(valid.to(tl.int32), 0)
    most = tl.max(tl.where(valid, shares, 0.0), 0)
    least = tl.minimum(tl.load(floors + row) / count.to(tl.float32), most)
    threshold = tl.where(kept >= count, 1, ordered_bits(least)).to(tl.uint32)
    tl.store(thresholds + index, threshold.to(tl.int32, bitcast=True))
    # A few pages at a time and from memory: int64 counts of all of them would spill registers.
    tl.debug_barrier()
    tokens_per_page += row * num_pages
    total = tl.zeros([COUNTED_AT_ONCE], tl.int64)
    for start in range(0, num_pages, COUNTED_AT_ONCE):
        part = start + tl.arange(0, COUNTED_AT_ONCE)
        again = tl.load(group_keys + part, mask=part < num_pages, other=0)
        chosen = is_chosen(again, threshold)
        total += tl.load(tokens_per_page + part, mask=chosen, other=0)
        noted = only_if(noting, part < num_pages)
        tl.store(readings + index * num_pages + part, chosen.to(tl.uint8), mask=noted)
    tl.store(tokens_read + index, tl.sum(total, 0))


@triton.jit(do_not_specialize=["share", "num_pages"])
def mass_outside_pages(page_keys, outside, share, num_pages, BLOCK_P: tl.constexpr):
    """Attention mass that the heaviest ``share`` of the pages leaves over.

    Args:
        page_keys: [R, H, num_pages] int32, logarithms of masses. outside: [R, H] fp32, written.
    """
    index = tl.program_id(0).to(tl.int64)
    page = tl.arange(0, BLOCK_P)
    keys = tl.load(page_keys + index * num_pages + page, mask=page < num_pages, other=0)
    keys = keys.to(tl.uint32, bitcast=True)
    valid = keys > 0
    weight = tl.where(valid, float_of(keys), -INFINITY)
    mass = tl.exp(weight - tl.max(weight, 0))
    total = tl.sum(mass, 0)
    best = tl.ceil(tl.sum(valid.to(tl.int32), 0).to(tl.float32) * share - 1e-9).to(tl.int32)
    # Masses are ≥ 0: their bits are in their order; + 1 keeps a vanished mass above 0.
    order = tl.where(valid, mass.to(tl.uint32, bitcast=True) + 1, 0)
    threshold, room = find_threshold(order, tl.maximum(best, 1))
    # From the order again: keeping the masses beside it would spill registers.
    below = tl.where(order < threshold, tl.maximum(order, 1) - 1, 0).to(tl.uint32)
    left_over = tl.sum(below.to(tl.float32, bitcast=True), 0)
    num_tied = tl.sum((order == threshold).to(tl.int32), 0) - room
    left_over += num_tied.to(tl.float32) * (threshold - 1).to(tl.uint32).to(
        tl.float32, bitcast=True
    )
    tl.store(outside + index, left_over / total)


@triton.jit
def is_chosen(keys, threshold):
    """Return whether each query [M, 1] chose each page [1, P]; keys [M, P] int32."""
    keys = keys.to(tl.uint32, bitcast=True)
    return (keys >= threshold) & (keys > 0)


@triton.jit(
    do_not_specialize=[
        "heads_per_group", "rows_per_source", "tiles", "pages", "first_page", "num_pages",
        "list_width", "block_m",
    ]
)  # fmt: skip
def list_pages(
    page_keys, thresholds, page_list, page_counts,
    heads_per_group, rows_per_source, tiles, pages, first_page, num_pages, list_width, block_m,
    BLOCK_P: tl.constexpr,
):  # fmt: skip
    """Pages of one block that any query of a tile chose, ascending, for one split of it.

    Args:
        page_keys: [R, Hkv, num_pages] int32. thresholds: [R, Hkv] int32.
        page_list: [tiles, Hkv, splits, list_width] int32, page_counts: [tiles, Hkv,
            splits] int32; both written.
    """
    tile, kv_head, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    splits = tl.num_programs(2)
    entry = (tile * tl.num_programs(1) + kv_head) * splits + split
    queries = rows_per_source * heads_per_group
    first = (tile % tiles) * block_m
    count = 0
    for start in range(0, tl.cdiv(pages - split, splits), BLOCK_P):
        page = split + (start + tl.arange(0, BLOCK_P)) * splits
        listed = tl.zeros([BLOCK_P], tl.int32)
        for part in range(first, tl.minimum(first + block_m, queries), 16):
            index = part + tl.arange(0, 16)
            row = tile // tiles * rows_per_source + index // heads_per_group
            chooser = row * tl.num_programs(1) + kv_head
            used = index < queries
            threshold = tl.load(thresholds + chooser, mask=used, other=0)
            there = used[:, None] & (page < pages)[None, :]
            at = chooser[:, None] * num_pages + (first_page + page)[None, :]
            keys = tl.load(page_keys + at, mask=there, other=0)
            chosen = is_chosen(keys, threshold.to(tl.uint32, bitcast=True)[:, None])
            listed = tl.maximum(listed, tl.max((chosen & there).to(tl.int32), 0))
        slot = count + tl.cumsum(listed, 0) - 1
        tl.store(page_list + entry * list_width + slot, page, mask=listed > 0)
        count += tl.sum(listed, 0)
    tl.store(page_counts + entry, count)


@triton.jit(
    do_not_specialize=[
        *BLOCK_SCALARS, "row_lines", "head_lines", "list_width", "first_split", "all_splits",
        "selecting",
    ]
)  # fmt: skip
def attend_pages(
    query, sources, valid_tokens, heads_per_group, rows_per_source, tiles, tokens, page_size,
    head_size, first_page, num_pages, first_token, mask_width, masked, has_sources,
    keys, values, page_keys, thresholds, page_list, page_counts, mixed, tops, sums,
    row_lines, head_lines, list_width, first_split, all_splits, selecting,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, HEAD: tl.constexpr,
):  # fmt: skip
    """Softmax attention of a tile over its listed pages of one block and split.

    Args:
        query: [R, H, D] fp32, scaled. keys, values: lines of D.
        page_keys … page_counts: as ``list_pages``.
        valid_tokens: [R, mask_width] uint8, read if ``masked``.
        mixed: [R, H, all_splits, D] fp32; tops, sums: [R, H, all_splits] fp32; written.
            ``mixed`` is divided by ``sums`` if there is one split only.
        selecting: whether pages were chosen and listed; otherwise all are read.
    """
    tile, kv_head, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    splits = tl.num_programs(2)
    source, row, member, used = tile_queries(tile, tiles, heads_per_group, rows_per_source, BLOCK_M)
    index = (row * tl.num_programs(1) + kv_head) * heads_per_group + member
    line = first_line(sources, source, kv_head, row_lines, head_lines, has_sources)
    keys, values = keys + line * head_size, values + line * head_size
    channel = tl.arange(0, HEAD)
    inside = channel < head_size
    vector = tl.load(
        query + index[:, None] * head_size + channel[None, :],
        mask=used[:, None] & inside[None, :],
        other=0.0,
    )
    chooser = row * tl.num_programs(1) + kv_head
    threshold = tl.load(thresholds + chooser, mask=only_if(selecting, used), other=0)
    threshold = threshold.to(tl.uint32, bitcast=True)[:, None]
    entry = (tile * tl.num_programs(1) + kv_head) * splits + split
    count = tl.load(page_counts + entry, mask=selecting != 0, other=0)
    count = tl.where(selecting != 0, count, tl.cdiv(tl.cdiv(tokens, page_size) - split, splits))
    top = tl.full([BLOCK_M], -INFINITY, tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    sum_of_values = tl.zeros([BLOCK_M, HEAD], tl.float32)
    for start in range(0, count * page_size, BLOCK_N):
        number = start + tl.arange(0, BLOCK_N)
        slot = number // page_size
        listed = slot < count
        chosen = only_if(selecting, listed)
        page = tl.load(page_list + entry * list_width + slot, mask=chosen, other=0)
        page = tl.where(chosen, page, split + slot * splits)
        token = page * page_size + number % page_size
        present = listed & (token < tokens)
        seen = used[:, None] & present[None, :]
        at = row[:, None] * mask_width + (first_token + token)[None, :]
        seen &= tl.load(valid_tokens + at, mask=only_if(masked, seen), other=1) != 0
        # Only what some query may see is read: the rest may hold anything, and 0 · NaN is NaN.
        needed = (tl.max(seen.to(tl.int32), 0) > 0)[:, None] & inside[None, :]
        where = token[:, None] * head_size + channel[None, :]
        key = tl.load(keys + where, mask=needed, other=0.0)
        at = chooser[:, None] * num_pages + (first_page + page)[None, :]
        bound = tl.load(page_keys + at, mask=only_if(selecting, seen), other=0)
        chose = is_chosen(bound, threshold)
        seen &= tl.where(seen, chose.to(tl.int32), 0) + (1 - selecting) > 0
        scores = dot_wide(vector, tl.trans(key), tl.zeros([BLOCK_M, BLOCK_N], tl.float32))
        scores = tl.where(seen, scores, -INFINITY)
        new_top = tl.maximum(top, tl.max(scores, 1))
        anchor = tl.where(new_top == -INFINITY, 0.0, new_top)
        weights = tl.exp(scores - anchor[:, None])
        shrink = tl.exp(top - anchor)
        total = total * shrink + tl.sum(weights, 1)
        value = tl.load(values + where, mask=needed, other=0.0)
        sum_of_values = dot_wide(weights, value, sum_of_values * shrink[:, None])
        top = new_top
    part = index * all_splits + first_split + split
    alone = tl.where(used, all_splits, 0) == 1
    divisor = tl.where(alone, total, 1.0)
    tl.store(
        mixed + part[:, None] * head_size + channel[None, :],
        sum_of_values / divisor[:, None],
        mask=used[:, None] & inside[None, :],
    )
    tl.store(tops + part, top, mask=used)
    tl.store(sums + part, total, mask=used)


@triton.jit(do_not_specialize=["splits"])
def merge_splits(
    parts, tops, sums, mixed, head_size, splits, SPLITS: tl.constexpr, HEAD: tl.constexpr
):
    """Join each query's parts: [R, H, splits, D] fp32 → mixed [R, H, D]."""
    index = tl.program_id(0).to(tl.int64)
    channel = tl.arange(0, HEAD)
    inside = channel < head_size
    top = -INFINITY
    for start in range(0, splits, SPLITS):
        split = start + tl.arange(0, SPLITS)
        tops_here = tl.load(tops + index * splits + split, mask=split < splits, other=-INFINITY)
        top = tl.maximum(top, tl.max(tops_here, 0))
    total = 0.0
    joined = tl.zeros([HEAD], tl.float32)
    for start in range(0, splits, SPLITS):
        split = start + tl.arange(0, SPLITS)
        there = split < splits
        weight = tl.exp(tl.load(tops + index * splits + split, mask=there, other=-INFINITY) - top)
        total += tl.sum(weight * tl.load(sums + index * splits + split, mask=there, other=0.0), 0)
        part = tl.load(
            parts + (index * splits + split)[:, None] * head_size + channel[None, :],
            mask=there[:, None] & inside[None, :],
            other=0.0,
        )
        joined += tl.sum(weight[:, None] * part, 0)
    joined = narrowed(joined / total, mixed.dtype.element_ty)
    tl.store(mixed + index * head_size + channel, joined, mask=inside)
