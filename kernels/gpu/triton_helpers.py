"""Small Triton functions that several kernels are built from."""

from __future__ import annotations

import triton
import triton.language as tl

# Triton's interpreter keeps bfloat16 as bit patterns: it multiplies those, and drops bits
# where a GPU rounds. Operands are widened first there, and rounding is spelled out.
INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)
TO_EVEN = tl.constexpr(12582912.0)  # 1.5 · 2^23: adding and taking it away rounds |x| < 2^22

# The numbers among the first arguments of the kernels that read a block of a KV cache, but for the
# head size: Triton reads 16 bytes at once only where it knows that sizes are divisible by 16.
BLOCK_SCALARS = [
    "heads_per_group", "rows_per_source", "tiles", "tokens", "page_size", "first_page",
    "num_pages", "first_token", "mask_width", "masked", "has_sources",
]  # fmt: skip


@triton.jit
def dot_wide(left, right, total):
    """total + left @ right on tensor cores, as exact as fp32 ``left`` allows.

    A 16-bit ``right`` meets ``left`` as the sum of two 16-bit numbers: 16 significant
    bits of a bfloat16 pair, 22 of a float16 pair. fp32 operands are three TF32 products.
    """
    if right.dtype != tl.float32:
        high = narrowed(left, right.dtype)
        total = dot_narrow(high, right, total)
        left = narrowed(left - high.to(tl.float32), right.dtype)
    return dot_narrow(left, right, total)


@triton.jit
def dot_narrow(left, right, total):
    """total + left @ right for operands of one dtype, accumulated in fp32."""
    if INTERPRETED:
        left = left.to(tl.float32)
        right = right.to(tl.float32)
    return tl.dot(left, right, total, input_precision="tf32x3")


@triton.jit
def narrowed(numbers, dtype: tl.constexpr):
    """fp32 rounded to the nearest number of a dtype, ties to even."""
    if INTERPRETED and dtype == tl.bfloat16:
        bits = numbers.to(tl.uint32, bitcast=True)
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
        bits = tl.where(numbers == numbers, rounded, bits).to(tl.uint32)
        numbers = bits.to(tl.float32, bitcast=True)
    return numbers.to(dtype)


@triton.jit
def ordered_bits(numbers):
    """fp32 → unsigned integers in the numbers' order: −0 ties with 0, NaN is the largest."""
    numbers = tl.where(numbers == 0.0, 0.0, numbers)
    bits = numbers.to(tl.uint32, bitcast=True)
    bits = tl.where(bits >> 31 != 0, bits ^ 0xFFFFFFFF, bits | 0x80000000)
    return tl.where(numbers != numbers, 0xFFFFFFFF, bits).to(tl.uint32)


@triton.jit
def float_of(bits):
    """Inverse of ``ordered_bits``."""
    bits = tl.where(bits >> 31 != 0, bits & 0x7FFFFFFF, bits ^ 0xFFFFFFFF)
    return bits.to(tl.float32, bitcast=True)


@triton.jit
def pick_bin(counts, room):
    """(the lowest of the highest bins that hold ``room`` keys together, how many of its own belong
    to them), int32."""
    bins = tl.arange(0, counts.shape[0])
    reaching = tl.cumsum(counts, 0, reverse=True)
    lowest = tl.max(tl.where(reaching >= room, bins, 0), 0)
    return lowest, room - tl.sum(tl.where(bins > lowest, counts, 0), 0)


@triton.jit
def find_threshold(keys, rank):
    """The ``rank``-th largest of the keys above 0: a radix search, 8 bits a pass.

    Args:
        keys: [N] uint32; 0 marks what does not count.
        rank: at least 1; more than there are means the smallest.
    Returns: (threshold uint32, how many keys equal to it belong to the largest ``rank``).
    """
    valid = keys > 0
    room = tl.minimum(rank, tl.sum(valid.to(tl.int32), 0))
    threshold = room.to(tl.uint32) * 0
    fixed = threshold
    for digit in tl.static_range(4):
        shift = 24 - 8 * digit
        matching = valid & ((keys & fixed) == threshold)
        counts = tl.histogram(((keys >> shift) & 255).to(tl.int32), 256, mask=matching)
        lowest, room = pick_bin(counts, room)
        threshold = threshold | (lowest.to(tl.uint32) << shift)
        fixed = fixed | (255 << shift)
    return threshold, room


@triton.jit
def are_largest(keys, threshold, room):
    """Mask of the [N] keys above a threshold, and of the first ``room`` that equal it."""
    tied = (keys > 0) & (keys == threshold)
    return ((keys > 0) & (keys > threshold)) | (tied & (tl.cumsum(tied.to(tl.int32), 0) <= room))


@triton.jit
def magnitude_order(numbers, inside):
    """Magnitudes of fp32 numbers as unsigned integers in their order, above 0; 0 outside."""
    patterns = (numbers.to(tl.int32, bitcast=True) & 0x7FFFFFFF).to(tl.uint32, bitcast=True)
    return tl.where(inside, patterns + 1, 0).to(tl.uint32)


@triton.jit
def round_half_even(numbers):
    """Round to the nearest whole number, |x| < 2^22."""
    return (numbers + TO_EVEN) - TO_EVEN


@triton.jit
def tile_queries(
    tile, kv_head, tiles, heads_per_group, rows_per_source, sources, row_lines, head_lines,
    has_sources, BLOCK_M: tl.constexpr,
):  # fmt: skip
    """A tile's source, and of its queries [M]: row, index of the KV group in [R, Hkv], index in
    [R, H], whether there is such a query; and the line of the source's first token, int64."""
    source = tile // tiles
    number = (tile % tiles) * BLOCK_M + tl.arange(0, BLOCK_M)
    used = number < rows_per_source * heads_per_group
    row = source * rows_per_source + number // heads_per_group
    group = row * tl.num_programs(1) + kv_head
    index = group * heads_per_group + number % heads_per_group
    other = tl.load(sources + source, mask=has_sources != 0, other=0)
    sequence = tl.where(has_sources != 0, other, source.to(tl.int64))
    return source, row, group, index, used, sequence * row_lines + kv_head.to(tl.int64) * head_lines


@triton.jit
def sees(used, present, row, token, valid_tokens, mask_width, masked):
    """Return whether query m sees token n, by its row's mask if ``masked``: [M, N]."""
    seen = used[:, None] & present[None, :]
    at = row[:, None] * mask_width + token[None, :]
    return seen & (tl.load(valid_tokens + at, mask=only_if(masked, seen), other=1) != 0)


@triton.jit
def only_if(flag, mask):
    """The mask if the flag (a scalar) is not 0, else all false; the interpreter's way of &."""
    return tl.where(mask, flag, 0) != 0


@triton.jit
def ends_last(counter, programs):
    """Return whether this program is the last of so many here: it sees what the others stored,
    and sets their counter back to 0 for the next launch."""
    tl.debug_barrier()
    last = tl.atomic_add(counter, 1) == programs - 1
    if last:
        tl.store(counter, 0)
    return last
