"""Rows on CUDA as a product takes them: added to, normalised, pruned, quantised and listed at once.

What a wide row keeps is found by several programs before (``rank_rows``).
"""

from __future__ import annotations

import triton
import triton.language as tl

from kernels.gpu.triton_helpers import (
    are_largest,
    ends_last,
    find_threshold,
    magnitude_order,
    narrowed,
    only_if,
    pick_bin,
    round_half_even,
)
from kernels.quantisation_levels import SCALE_FLOOR, UNTOUCHED_BITS

BINS = tl.constexpr(2048)  # of 11 bits of a key
FLOOR = tl.constexpr(SCALE_FLOOR)
UNTOUCHED = tl.constexpr(UNTOUCHED_BITS)


@triton.jit
def quantised(numbers, bits, QUANT_BLOCK: tl.constexpr):
    """``fake_quantise`` of one row, the reference's operations in its order.

    Args:
        numbers: [N] fp32, 0 where padded. bits: scalar in [2, 16].
        QUANT_BLOCK: channels that share a scale, a power of two; 0: all.
    """
    size: tl.constexpr = numbers.shape[0]
    block: tl.constexpr = QUANT_BLOCK if QUANT_BLOCK > 0 else size
    blocks = tl.reshape(numbers, [size // block, block])
    # Without the sign bit, patterns are in the order of the magnitudes, and NaN is largest.
    peaks = tl.max(blocks.to(tl.int32, bitcast=True) & 0x7FFFFFFF, 1).to(tl.float32, bitcast=True)
    levels = ((1 << (bits.to(tl.int32) - 1)) - 1).to(tl.float32)
    scales = tl.div_rn(peaks, levels + tl.zeros_like(peaks))
    scales = tl.where(scales < FLOOR, FLOOR, scales)[:, None] + tl.zeros_like(blocks)
    rounded = tl.reshape(round_half_even(tl.div_rn(blocks, scales)) * scales, [size])
    return tl.where(bits < UNTOUCHED, rounded, numbers)


@triton.jit
def load_row(row, channel, inside, rows, update, norm, width, adding, weighted):
    """Some channels of a row after its update, and what each weighs, fp32."""
    at = row.to(tl.int64) * width + channel
    numbers = tl.load(rows + at, mask=inside, other=0.0).to(tl.float32)
    numbers += tl.load(update + at, mask=only_if(adding, inside), other=0.0).to(tl.float32)
    weights = tl.load(norm + channel, mask=only_if(weighted, inside), other=1.0)
    return numbers, weights.to(tl.float32)


@triton.jit
def prepare_row(
    row, rows, update, norm, kept, bit_widths, stream, prepared, channels, width, epsilon, adding,
    weighted, norming, quantising, keys, thresholds, writing,
    BLOCK: tl.constexpr, PRUNED: tl.constexpr, RANKED: tl.constexpr, LISTED: tl.constexpr,
    QUANT_BLOCK: tl.constexpr,
):  # fmt: skip
    """One row of ``prepare_rows``; ``prepared`` and ``channels`` are its own lines, and the stream
    is written if ``writing``. Returns: how many channels are listed; all if none are."""
    channel = tl.arange(0, BLOCK)
    inside = channel < width
    numbers, weights = load_row(row, channel, inside, rows, update, norm, width, adding, weighted)
    at = row.to(tl.int64) * width + channel
    tl.store(stream + at, numbers, mask=only_if(writing * adding, inside))
    if RANKED:
        order = tl.load(keys + at, mask=inside, other=0).to(tl.uint32, bitcast=True)
        threshold = tl.load(thresholds + 2 * row).to(tl.uint32, bitcast=True)
        room = tl.load(thresholds + 2 * row + 1)
    elif PRUNED:
        order = magnitude_order(numbers * weights, inside)
        threshold, room = find_threshold(order, tl.load(kept + row).to(tl.int32))
    if norming != 0:
        scale = tl.sqrt_rn(tl.sum(numbers * numbers, 0) / width + epsilon)
        numbers = numbers / scale * weights
    if PRUNED:
        numbers = tl.where(are_largest(order, threshold, room), numbers, 0.0)
    if QUANT_BLOCK >= 0:
        bits = tl.load(bit_widths + row, mask=quantising != 0, other=16)
        numbers = quantised(numbers, bits, QUANT_BLOCK)
    numbers = narrowed(numbers, prepared.dtype.element_ty)
    tl.store(prepared + channel, numbers, mask=inside)
    count = width
    if LISTED:
        used = ((numbers.to(tl.float32) != 0.0) & inside).to(tl.int32)
        tl.store(channels + tl.cumsum(used, 0) - 1, channel, mask=used > 0)
        count = tl.sum(used, 0)
    return count


@triton.jit(do_not_specialize=["epsilon", "adding", "weighted", "norming", "quantising"])
def prepare_rows(
    rows, update, norm, kept, bit_widths, stream, prepared, channels, width, epsilon, adding,
    weighted, norming, quantising, counts, keys, thresholds,
    BLOCK: tl.constexpr, PRUNED: tl.constexpr, RANKED: tl.constexpr, LISTED: tl.constexpr,
    QUANT_BLOCK: tl.constexpr,
):  # fmt: skip
    """(rows + update) / rms · norm → prepared [R, C], of which some channels are kept, quantised.

    Args:
        rows, stream: [R, C]; the stream is the sum, written where there is one (``adding``).
        norm: [C] fp32, read if ``weighted``; unless ``norming``, it only weighs what is pruned.
        kept: [R] int64, how many channels of largest |number · norm| stay, if PRUNED.
        keys, thresholds: of ``rank_rows``, if RANKED.
        bit_widths: [R] int64, if ``quantising`` and QUANT_BLOCK is not −1.
        channels: [R, C] int32, counts: [R] int32, written if LISTED: those that are not 0.
    """
    row = tl.program_id(0)
    line = row.to(tl.int64) * width
    count = prepare_row(
        row, rows, update, norm, kept, bit_widths, stream, prepared + line, channels + line,
        width, epsilon, adding, weighted, norming, quantising, keys, thresholds, 1,
        BLOCK, PRUNED, RANKED, LISTED, QUANT_BLOCK,
    )  # fmt: skip
    if LISTED:
        tl.store(counts + row, count)


@triton.jit(do_not_specialize=["adding", "weighted"])
def rank_rows(
    rows, update, norm, kept, width, adding, weighted, keys, thresholds, counts, counters,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """The threshold of the ``kept`` largest |number · norm| of a row, as ``find_threshold`` has it.

    Several programs a row count its keys by their highest bits; the last one looks closer.

    Args:
        keys: [R, C] int32, thresholds: [R, 2] int32; written.
        counts: [R, BINS] int32 zeros. counters: [R] int32 zeros.
    """
    row, part = tl.program_id(0), tl.program_id(1)
    channel = part * BLOCK + tl.arange(0, BLOCK)
    inside = channel < width
    numbers, weights = load_row(row, channel, inside, rows, update, norm, width, adding, weighted)
    order = magnitude_order(numbers * weights, inside)
    keys += row.to(tl.int64) * width
    tl.store(keys + channel, order.to(tl.int32, bitcast=True), mask=inside)
    counts += row * BINS + tl.arange(0, BINS)
    histogram = tl.histogram((order >> 21).to(tl.int32), BINS, mask=inside)
    # Relaxed: ``ends_last`` puts them in order.
    tl.atomic_add(counts, histogram, mask=histogram > 0, sem="relaxed")
    if ends_last(counters + row, tl.num_programs(1)):
        room = tl.minimum(tl.load(kept + row), width).to(tl.int32)
        histogram = tl.load(counts, cache_modifier=".cg")
        tl.store(counts, tl.zeros_like(histogram))
        lowest, room = pick_bin(histogram, room)
        threshold = lowest.to(tl.uint32) << 21
        for digit in tl.static_range(2):
            known, shift = 21 - 11 * digit, 10 - 10 * digit
            histogram = tl.zeros_like(histogram)
            for start in range(0, width, BLOCK):
                other = start + tl.arange(0, BLOCK)
                key = tl.load(keys + other, mask=other < width, other=0, cache_modifier=".cg")
                key = key.to(tl.uint32, bitcast=True)
                matching = (other < width) & ((key >> known) == (threshold >> known))
                bins = ((key >> shift) & (BINS - 1)).to(tl.int32)
                histogram += tl.histogram(bins, BINS, mask=matching)
            lowest, room = pick_bin(histogram, room)
            threshold = threshold | (lowest.to(tl.uint32) << shift)
        tl.store(thresholds + 2 * row, threshold.to(tl.int32, bitcast=True))
        tl.store(thresholds + 2 * row + 1, room)
