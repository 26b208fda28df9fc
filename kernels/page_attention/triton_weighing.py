"""Weighing pages on CUDA by 4-bit keys, one launch a block, and choosing those that are read.

``weigh_pages`` makes the definition's numbers, but for the order in which a page's masses are
summed: products of int8 queries with codes (``kernels/key_codes``) are whole. The last of its
programs for a KV group makes one score of its heads; the pages above a threshold, a floor that
needs no sorting, are chosen. ``mass_outside_pages`` is what a policy observes.
"""

from __future__ import annotations

import triton
import triton.language as tl

from kernels.gpu.triton_helpers import (
    BLOCK_SCALARS,
    ends_last,
    find_threshold,
    float_of,
    only_if,
    ordered_bits,
    round_half_even,
    sees,
    tile_queries,
)
from kernels.key_codes.triton_kernel import (
    HIGHEST_QUERY,
    INFINITY,
    LEAST_SCALE,
    OCTET,
    low_channels,
)

SCORED_AT_ONCE = tl.constexpr(2048)  # masses that a program looks at together


@triton.jit
def is_chosen(keys, threshold):
    """Return whether each query [M, 1] chose each page [1, P]; keys [M, P] int32."""
    keys = keys.to(tl.uint32, bitcast=True)
    return (keys >= threshold) & (keys > 0)


@triton.jit
def softmax_step(scores, top, total):
    """Continue softmaxes [M] by more scores [M, N].

    Args:
        top, total: largest score so far, and the sum of exponentials relative to it.
    Returns: exponentials of the scores, the factor of what was summed before, top, total.
    """
    new_top = tl.maximum(top, tl.max(scores, 1))
    anchor = tl.where(new_top == -INFINITY, 0.0, new_top)
    weights, shrink = tl.exp(scores - anchor[:, None]), tl.exp(top - anchor)
    return weights, shrink, new_top, total * shrink + tl.sum(weights, 1)


@triton.jit
def group_weights(page_keys, member, page, members, num_pages):
    """Log masses of some pages for all heads of a group, [MEMBERS, N] fp32, −∞ where not valid."""
    there = (member < members)[:, None] & (page < num_pages)[None, :]
    at = page_keys + member[:, None] * num_pages + page[None, :]
    keys = tl.load(at, mask=there, other=0, cache_modifier=".cg").to(tl.uint32, bitcast=True)
    return tl.where(keys > 0, float_of(keys), -INFINITY)


@triton.jit
def choose_pages(
    index, row, page_keys, group_keys, pages_kept, floors, tokens_per_page, thresholds,
    tokens_read, readings, members, noting, num_pages, MEMBERS: tl.constexpr,
):  # fmt: skip
    """The pages that a KV group needs, as a threshold; see ``reference.select_needed``.

    A group weighs pages by the mean of its heads' softmax over pages.

    Args: of the group's ``index`` in [R, Hkv] and its row; the others as ``weigh_pages``.
    """
    member = tl.arange(0, MEMBERS)
    pages: tl.constexpr = SCORED_AT_ONCE // MEMBERS
    page_keys += index * members * num_pages
    group_keys += index * num_pages
    top = tl.full([MEMBERS], -INFINITY, tl.float32)
    total = tl.zeros([MEMBERS], tl.float32)
    for start in range(0, num_pages, pages):
        page = start + tl.arange(0, pages)
        weights = group_weights(page_keys, member, page, members, num_pages)
        _, _, top, total = softmax_step(weights, top, total)
    top, total = tl.where(total > 0, top, 0.0), tl.where(total > 0, total, 1.0)
    count, most = 0, 0.0
    for start in range(0, num_pages, pages):
        page = start + tl.arange(0, pages)
        weights = group_weights(page_keys, member, page, members, num_pages)
        fractions = tl.sum(tl.exp(weights - top[:, None]) / total[:, None], 0) / members
        valid = tl.max(weights, 0) > -INFINITY
        keys = tl.where(valid, ordered_bits(fractions), 0).to(tl.int32, bitcast=True)
        tl.store(group_keys + page, keys, mask=page < num_pages)
        count += tl.sum(valid.to(tl.int32), 0)
        most = tl.maximum(most, tl.max(tl.where(valid, fractions, 0.0), 0))
    kept = tl.load(pages_kept + row)
    least = tl.minimum(tl.load(floors + row) / count, most)
    threshold = tl.where(kept >= count, 1, ordered_bits(least)).to(tl.uint32)
    tl.store(thresholds + index, threshold.to(tl.int32, bitcast=True))
    tl.debug_barrier()
    tokens = tl.zeros([pages], tl.int64)
    for start in range(0, num_pages, pages):
        page = start + tl.arange(0, pages)
        inside = page < num_pages
        chosen = is_chosen(tl.load(group_keys + page, mask=inside, other=0), threshold)
        tokens += tl.load(tokens_per_page + row * num_pages + page, mask=chosen, other=0)
        noted = only_if(noting, inside)
        tl.store(readings + index * num_pages + page, chosen.to(tl.uint8), mask=noted)
    tl.store(tokens_read + index, tl.sum(tokens, 0))


@triton.jit
def whole_numbers(numbers, unit):
    """Queries [M, HALF] in units [M], −127 to 127, as fp32."""
    whole = round_half_even(tl.div_rn(numbers, unit[:, None] + tl.zeros_like(numbers)))
    return tl.minimum(tl.maximum(whole, -HIGHEST_QUERY), HIGHEST_QUERY)


@triton.jit
def whole_queries(query, index, used, head_size, HALF: tl.constexpr):
    """Queries [M] rounded to int8: their low and high channels [M, HALF] fp32, and units [M]."""
    channel, _ = low_channels(HALF)
    at = query + index[:, None] * head_size + channel[None, :]
    there = used[:, None] & (channel < head_size)[None, :]
    low, high = tl.load(at, mask=there, other=0.0), tl.load(at + 4, mask=there, other=0.0)
    largest = tl.max(tl.maximum(tl.abs(low), tl.abs(high)), 1)
    unit = tl.maximum(tl.div_rn(largest, tl.zeros_like(largest) + HIGHEST_QUERY), LEAST_SCALE)
    return whole_numbers(low, unit), whole_numbers(high, unit), unit


@triton.jit
def scores_by_codes(
    low, high, unit, codes, scales, token, present, there, head_size, HALF: tl.constexpr
):
    """Products of whole queries with the 4-bit keys of ``present`` tokens [N]: [M, N] fp32.

    Args:
        codes, scales: lines as of ``weigh_pages``, read of the tokens that are ``there``.
    """
    octet, in_octet = token // OCTET, token % OCTET
    first = 8 * tl.arange(0, HALF // 4)  # channel of a word
    where = first[:, None] + (octet * head_size + in_octet)[None, :]
    words = tl.load(codes + where, mask=(first < head_size)[:, None] & there[None, :], other=0)
    bits = 8 * tl.arange(0, 4)
    both = tl.reshape((words[:, None, :] >> bits[None, :, None]) & 255, [HALF, token.shape[0]])
    # Whole numbers below 2^24 in all: exact, and every Triton since 3.4 lowers it on every card.
    products = tl.zeros([unit.shape[0], token.shape[0]], tl.float32)
    products = tl.dot(low.to(tl.float16), (both & 15).to(tl.float16), products)
    products = tl.dot(high.to(tl.float16), (both >> 4).to(tl.float16), products)
    where = octet * (2 * OCTET) + in_octet
    scale = tl.load(scales + where, mask=there, other=0.0).to(tl.float32)
    minimum = tl.load(scales + where + OCTET, mask=there, other=0.0).to(tl.float32)
    scale, minimum = tl.where(present, scale, 0.0), tl.where(present, minimum, 0.0)
    offsets = tl.sum(low + high, 1)[:, None] * minimum[None, :]
    return (products * scale[None, :] + offsets) * unit[:, None]


@triton.jit
def page_masses(scores):
    """Log mass of each page as ordered bits, 0 where nothing is seen: [M, PAGES, SLOTS] → int32."""
    top = tl.max(scores, 2)
    hidden = top == -INFINITY
    anchor = tl.where(hidden, 0.0, top)
    total = tl.sum(tl.exp(scores - anchor[:, :, None]), 2)
    mass = anchor + tl.log(tl.where(hidden, 1.0, total))
    return tl.where(hidden, 0, ordered_bits(mass)).to(tl.int32, bitcast=True)


@triton.jit(
    do_not_specialize=[*BLOCK_SCALARS, "row_lines", "head_lines", "pages", "choosing", "noting"]
)
def weigh_pages(
    query, sources, valid_tokens, heads_per_group, rows_per_source, tiles, tokens, page_size,
    head_size, first_page, num_pages, first_token, mask_width, masked, has_sources,
    codes, scales, page_keys, group_keys, pages_kept, floors, tokens_per_page, thresholds,
    tokens_read, readings, counters, row_lines, head_lines, pages, choosing, noting,
    BLOCK_M: tl.constexpr, PAGES: tl.constexpr, SLOTS: tl.constexpr, WHOLE: tl.constexpr,
    HALF: tl.constexpr, MEMBERS: tl.constexpr,
):  # fmt: skip
    """Log mass of every query and page of one block, as ordered bits; 0 if nothing is seen. If
    ``choosing``, in the last block, then the pages that groups need.

    Args:
        query: [R, H, D] fp32, scaled. sources: [M] int64. valid_tokens: [R, mask_width] uint8, read
            if ``masked``. codes: lines of D words, int32 of four bytes each, scales: lines of 16
            bf16, an octet each.
        pages, first_page, tokens, first_token: of this block, over all blocks' numbering.
        page_keys: [R, H, num_pages] int32, group_keys: [R, Hkv, num_pages] int32; written.
        pages_kept: [R] int64. floors: [R] fp32. tokens_per_page: [R, num_pages] int64.
        thresholds: [R, Hkv] int32, written. tokens_read: [R, Hkv] int64, written: how many the
            chosen pages have. readings: [R, Hkv, num_pages] uint8, written if ``noting``: 1 for
            the chosen pages. counters: [sources, Hkv] int32 zeros.
        WHOLE: pages are of SLOTS tokens, whole octets, which are then read whole.
    """
    tile, kv_head, part = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    source, row, _, index, used, line = tile_queries(
        tile, kv_head, tiles, heads_per_group, rows_per_source, sources, row_lines, head_lines,
        has_sources, BLOCK_M,
    )  # fmt: skip
    codes, scales = codes + line * head_size, scales + line * (2 * OCTET)
    low, high, unit = whole_queries(query, index, used, head_size, HALF)
    number = tl.arange(0, PAGES * SLOTS)
    slot = number % SLOTS
    if WHOLE:
        page_size = SLOTS
    token = (part * PAGES + number // SLOTS) * page_size + slot
    present = (slot < page_size) & (token < tokens)
    there = present
    if WHOLE:  # in pieces of 16 bytes, also past the last token
        there = token // OCTET * OCTET < tokens
    scores = scores_by_codes(low, high, unit, codes, scales, token, present, there, head_size, HALF)
    seen = sees(used, present, row, first_token + token, valid_tokens, mask_width, masked)
    keys = page_masses(tl.reshape(tl.where(seen, scores, -INFINITY), [BLOCK_M, PAGES, SLOTS]))
    page = part * PAGES + tl.arange(0, PAGES)
    at = page_keys + index[:, None] * num_pages + (first_page + page)[None, :]
    tl.store(at, keys, mask=used[:, None] & (page < pages)[None, :])
    if choosing != 0:
        kv_heads = tl.num_programs(1)
        if ends_last(counters + source * kv_heads + kv_head, tiles * tl.num_programs(2)):
            for offset in range(0, rows_per_source):
                each = source.to(tl.int64) * rows_per_source + offset
                choose_pages(
                    each * kv_heads + kv_head, each, page_keys, group_keys, pages_kept, floors,
                    tokens_per_page, thresholds, tokens_read, readings, heads_per_group, noting,
                    num_pages, MEMBERS,
                )  # fmt: skip


@triton.jit(do_not_specialize=["best_fraction", "num_pages"])
def mass_outside_pages(page_keys, outside, best_fraction, num_pages, BLOCK_P: tl.constexpr):
    """Attention mass that the heaviest ``best_fraction`` of the pages leaves over.

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
    best = tl.ceil(tl.sum(valid.to(tl.int32), 0).to(tl.float32) * best_fraction - 1e-9).to(tl.int32)
    # Masses are ≥ 0: their bits are in their order; + 1 keeps a vanished mass above 0.
    order = tl.where(valid, mass.to(tl.uint32, bitcast=True) + 1, 0)
    threshold, room = find_threshold(order, tl.maximum(best, 1))
    # From the order again: keeping the masses beside it would spill registers.
    below = tl.where(order < threshold, tl.maximum(order, 1) - 1, 0).to(tl.uint32)
    left_over = tl.sum(below.to(tl.float32, bitcast=True), 0)
    num_tied = tl.sum((order == threshold).to(tl.int32), 0) - room
    least = (threshold - 1).to(tl.uint32).to(tl.float32, bitcast=True)
    left_over += num_tied.to(tl.float32) * least
    tl.store(outside + index, left_over / total)
