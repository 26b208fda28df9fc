"""4-bit keys on CUDA: one key encoded, and the attention mass of pages by such keys.

The definition's numbers, but for the order in which a page's masses are summed.
Half a head's channels are looked at together, those in the low halves of an octet's bytes,
then those in the high ones: byte 4 · t + c of octet line d has channels 8 d + c and 8 d + 4 + c
of token t. Products of int8 queries with codes are summed in int32.
"""

from __future__ import annotations

import triton
import triton.language as tl

from kernels import key_codes
from kernels.gpu.triton_helpers import (
    BLOCK_SCALARS,
    first_line,
    narrowed,
    only_if,
    ordered_bits,
    round_half_even,
    tile_queries,
)

INFINITY = tl.constexpr(float("inf"))
OCTET = tl.constexpr(key_codes.OCTET)
HIGHEST_CODE = tl.constexpr(float(key_codes.HIGHEST_CODE))
HIGHEST_QUERY = tl.constexpr(float(key_codes.HIGHEST_QUERY))
LEAST_SCALE = tl.constexpr(key_codes.LEAST_SCALE)


@triton.jit
def low_channels(HALF: tl.constexpr):
    """(channel in a byte's low half, that byte's index in its octet for token 0), each [HALF]."""
    half = tl.arange(0, HALF)
    line, inner = half // 4, half % 4
    return 8 * line + inner, 32 * line + inner


@triton.jit
def coded(numbers, minimum, scale):
    """Codes 0 to 15 of numbers [HALF]."""
    steps = tl.div_rn(numbers - minimum, scale + tl.zeros_like(numbers))
    return round_half_even(tl.minimum(tl.maximum(steps, 0.0), HIGHEST_CODE)).to(tl.uint8)


@triton.jit
def encode_key(low, high, inside):
    """``encode_keys`` of one key, given the channels of low and of high halves [HALF] fp32.

    Returns: bytes [HALF] uint8, scale and minimum, bf16.
    """
    least = tl.min(tl.where(inside, tl.minimum(low, high), INFINITY), 0)
    most = tl.max(tl.where(inside, tl.maximum(low, high), -INFINITY), 0)
    minimum = narrowed(least, tl.bfloat16)
    # Codes are found for the two numbers as they are stored.
    stored = minimum.to(tl.float32)
    scale = narrowed(tl.div_rn(most - stored, HIGHEST_CODE), tl.bfloat16)
    step = tl.maximum(scale.to(tl.float32), LEAST_SCALE)
    return coded(low, stored, step) | (coded(high, stored, step) << 4), scale, minimum


@triton.jit
def whole_numbers(numbers, unit):
    """Queries [M, HALF] in units [M], −127 to 127, as fp32."""
    whole = round_half_even(tl.div_rn(numbers, unit[:, None] + tl.zeros_like(numbers)))
    return tl.minimum(tl.maximum(whole, -HIGHEST_QUERY), HIGHEST_QUERY)


@triton.jit(do_not_specialize=[*BLOCK_SCALARS, "row_lines", "head_lines", "pages"])
def weigh_pages(
    query, sources, valid_tokens, heads_per_group, rows_per_source, tiles, tokens, page_size,
    head_size, first_page, num_pages, first_token, mask_width, masked, has_sources,
    codes, scales, page_keys, row_lines, head_lines, pages,
    BLOCK_M: tl.constexpr, PAGES: tl.constexpr, SLOTS: tl.constexpr, WHOLE: tl.constexpr,
    HALF: tl.constexpr,
):  # fmt: skip
    """Log mass of every query and page of one block, as ordered bits; 0 if nothing is seen.

    Args:
        query: [R, H, D] fp32, scaled. codes: lines of D words, int32 of four bytes each, scales:
            lines of 16 bf16, an octet each. sources: [M] int64.
        valid_tokens: [R, mask_width] uint8, read if ``masked``.
        page_keys: [R, H, num_pages] int32, written.
        pages, first_page, tokens, first_token: of this block, over all blocks' numbering.
        WHOLE: pages are of SLOTS tokens, whole octets, which are then read whole.
    """
    tile, kv_head, part = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    source, row, member, used = tile_queries(tile, tiles, heads_per_group, rows_per_source, BLOCK_M)
    index = (row * tl.num_programs(1) + kv_head) * heads_per_group + member
    line = first_line(sources, source, kv_head, row_lines, head_lines, has_sources)
    codes, scales = codes + line * head_size, scales + line * (2 * OCTET)
    channel, _ = low_channels(HALF)
    inside = channel < head_size
    at = query + index[:, None] * head_size + channel[None, :]
    low = tl.load(at, mask=used[:, None] & inside[None, :], other=0.0)
    high = tl.load(at + 4, mask=used[:, None] & inside[None, :], other=0.0)
    largest = tl.max(tl.maximum(tl.abs(low), tl.abs(high)), 1)
    unit = tl.maximum(tl.div_rn(largest, tl.zeros_like(largest) + HIGHEST_QUERY), LEAST_SCALE)
    low, high = whole_numbers(low, unit), whole_numbers(high, unit)
    number = tl.arange(0, PAGES * SLOTS)
    slot = number % SLOTS
    if WHOLE:
        page_size = SLOTS
    token = (part * PAGES + number // SLOTS) * page_size + slot
    present = (slot < page_size) & (token < tokens)
    octet, in_octet = token // OCTET, token % OCTET
    there = present
    if WHOLE:  # in pieces of 16 bytes, also past the last token
        there = octet * OCTET < tokens
    first = 8 * tl.arange(0, HALF // 4)  # channel of a word
    where = first[:, None] + (octet * head_size + in_octet)[None, :]
    words = tl.load(codes + where, mask=(first < head_size)[:, None] & there[None, :], other=0)
    bits = 8 * tl.arange(0, 4)
    both = tl.reshape((words[:, None, :] >> bits[None, :, None]) & 255, [HALF, PAGES * SLOTS])
    # Whole numbers below 2^24 in all: exact, and every Triton since 3.4 lowers it on every card.
    products = tl.zeros([BLOCK_M, PAGES * SLOTS], tl.float32)
    products = tl.dot(low.to(tl.float16), (both & 15).to(tl.float16), products)
    products = tl.dot(high.to(tl.float16), (both >> 4).to(tl.float16), products)
    where = octet * (2 * OCTET) + in_octet
    scale = tl.load(scales + where, mask=there, other=0.0).to(tl.float32)
    minimum = tl.load(scales + where + OCTET, mask=there, other=0.0).to(tl.float32)
    scale, minimum = tl.where(present, scale, 0.0), tl.where(present, minimum, 0.0)
    offsets = tl.sum(low + high, 1)[:, None] * minimum[None, :]
    scores = (products * scale[None, :] + offsets) * unit[:, None]
    seen = used[:, None] & present[None, :]
    at = row[:, None] * mask_width + (first_token + token)[None, :]
    seen &= tl.load(valid_tokens + at, mask=only_if(masked, seen), other=1) != 0
    scores = tl.reshape(tl.where(seen, scores, -INFINITY), [BLOCK_M, PAGES, SLOTS])
    top = tl.max(scores, 2)
    hidden = top == -INFINITY
    anchor = tl.where(hidden, 0.0, top)
    total = tl.sum(tl.exp(scores - anchor[:, :, None]), 2)
    mass = anchor + tl.log(tl.where(hidden, 1.0, total))
    keys = tl.where(hidden, 0, ordered_bits(mass)).to(tl.int32, bitcast=True)
    page = part * PAGES + tl.arange(0, PAGES)
    tl.store(
        page_keys + index[:, None] * num_pages + (first_page + page)[None, :],
        keys,
        mask=used[:, None] & (page < pages)[None, :],
    )
