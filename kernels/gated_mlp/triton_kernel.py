"""The gated MLP of a decode step on CUDA, reading the weights of kept channels only.

``gate_up_rows`` enters the MLP (``kernels/residual``: adds, normalises, prunes, quantises), reads
the weights of kept channels (a channel is a contiguous line of an [in, out] matrix) and applies the
activation; ``down_rows`` prunes what is between and multiplies back. Where channels are split over
programs, the last program of a tile sums up. A single short row is prepared by every program of a
product for itself: that takes as long as once, and no launch. Several rows, and long ones, are
prepared by ``enter_rows`` and ``keep_heaviest_rows``, and ``list_channels`` joins the kept channels
of up to BLOCK_M rows.
"""

from __future__ import annotations

import triton
import triton.language as tl

from kernels.gpu.triton_helpers import (
    dot_narrow,
    ends_last,
    magnitude_order,
    narrowed,
    only_if,
)
from kernels.residual.triton_kernel import enter_row, store_kept


@triton.jit(do_not_specialize=["num_rows", "rows_at_once"])
def list_channels(
    prepared, channels, counts, num_rows, num_channels, rows_at_once, BLOCK: tl.constexpr
):
    """Channels that are not 0 in some row of a tile, ascending.

    Args:
        prepared: [R, C]. channels: [tiles, C] int32, counts: [tiles] int32; written.
    """
    tile = tl.program_id(0)
    first = tile * rows_at_once
    count = 0
    for start in range(0, num_channels, BLOCK):
        channel = start + tl.arange(0, BLOCK)
        used = tl.zeros([BLOCK], tl.int32)
        for row in range(first, tl.minimum(first + rows_at_once, num_rows)):
            at = prepared + row * num_channels + channel
            number = tl.load(at, mask=channel < num_channels, other=0.0).to(tl.float32)
            used = tl.maximum(used, (number != 0.0).to(tl.int32))
        slot = count + tl.cumsum(used, 0) - 1
        tl.store(channels + tile * num_channels + slot, channel, mask=used > 0)
        count += tl.sum(used, 0)
    tl.store(counts + tile, count)


@triton.jit
def product(
    left, channels, weight, row, column, num_rows, num_channels, width, first, last,
    BLOCK_K: tl.constexpr, LISTED: tl.constexpr,
):  # fmt: skip
    """Σ of left[row, c] · weight[c, column] over entries [first, last) of the list, or channels.

    Returns: [M, N] fp32.
    """
    total = tl.zeros([row.shape[0], column.shape[0]], tl.float32)
    for start in range(first, last, BLOCK_K):
        slot = start + tl.arange(0, BLOCK_K)
        inside = slot < last
        channel = slot
        if LISTED:
            channel = tl.load(channels + slot, mask=inside, other=0)
        numbers = tl.load(
            left + row[:, None] * num_channels + channel[None, :],
            mask=(row < num_rows)[:, None] & inside[None, :],
            other=0.0,
        )
        # A weight matrix may hold more than 2^31 numbers.
        where = channel.to(tl.int64)[:, None] * width + column[None, :]
        read = inside[:, None] & (column < width)[None, :]
        total = dot_narrow(numbers, tl.load(weight + where, mask=read, other=0.0), total)
    return total


@triton.jit
def split_range(count, split, splits, BLOCK_K: tl.constexpr):
    """The range [first, last) of ``count`` channels that this split takes."""
    each = tl.cdiv(tl.cdiv(count, splits), BLOCK_K) * BLOCK_K
    return tl.minimum(split * each, count), tl.minimum((split + 1) * each, count)


@triton.jit
def activated(gate, up, silu):
    """silu(gate) · up, or tanh-approximated gelu(gate) · up, in fp32.

    Both are x · sigmoid(y): y is x, or 2 · sqrt(2/π) · (x + 0.044715 · x³).
    """
    gelu = 1.5957691216057308 * (gate + 0.044715 * gate * gate * gate)
    return gate / (1.0 + tl.exp(-tl.where(silu != 0, gate, gelu))) * up


@triton.jit
def sum_of_parts(partial, at, step, splits, written):
    """[M, N] fp32 of ``splits`` parts that lie a step apart, in their order."""
    total = tl.zeros([written.shape[0], written.shape[1]], tl.float32)
    for split in range(0, splits):
        where = partial + split * step + at
        total += tl.load(where, mask=written, other=0.0, cache_modifier=".cg")
    return total


@triton.jit
def biases(bias, column, inside, biased):
    return tl.load(bias + column, mask=only_if(biased, inside), other=0.0).to(tl.float32)[None, :]


@triton.jit(
    do_not_specialize=[
        "epsilon", "adding", "norming", "quantising", "num_rows", "biased", "silu",
    ]
)  # fmt: skip
def gate_up_rows(
    hidden, update, norm, channels_kept, bit_widths, stream, normed,
    num_channels, epsilon, adding, norming, quantising, channels, counts, inner_size, silu,
    weight, bias, partial, output, counters, num_rows, biased,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK: tl.constexpr,
    ENTERS: tl.constexpr, PRUNED: tl.constexpr, SPLIT: tl.constexpr, QUANT_BLOCK: tl.constexpr,
):  # fmt: skip
    """Activated product of kept channels with gate and up.

    Args:
        hidden … quantising: as of ``enter_rows``. If ENTERS, for a single row, every program fills
            a line of its own of normed [programs, C] and channels [programs, C], and multiplies
            all channels unless PRUNED. Otherwise normed is [R, C], channels [tiles, C] and
            counts [tiles].
        weight: [C, 2·I] and bias [2·I] of normed's dtype; gate first.
        partial: [splits, R, 2·I] fp32, written if SPLIT. output: [R, I] of that dtype, written.
        counters: [tiles, parts] int32 zeros.
    """
    tile, part, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    parts, splits = tl.num_programs(1), tl.num_programs(2)
    row = tile * BLOCK_M + tl.arange(0, BLOCK_M)
    column = part * BLOCK_N + tl.arange(0, BLOCK_N)
    if ENTERS:
        program = part * splits + split
        normed += program * num_channels
        channels += program * num_channels
        count = enter_row(
            tile, hidden, update, norm, channels_kept, bit_widths, stream, normed, channels,
            num_channels, epsilon, adding, norming, quantising, (program == 0).to(tl.int32),
            BLOCK, PRUNED, PRUNED, QUANT_BLOCK,
        )  # fmt: skip
        tl.debug_barrier()
    else:
        count = tl.load(counts + tile)
        channels += tile * num_channels
    first, last = split_range(count, split, splits, BLOCK_K)
    width = 2 * inner_size
    gate = product(
        normed, channels, weight, row, column,
        num_rows, num_channels, width, first, last, BLOCK_K, PRUNED,
    )  # fmt: skip
    up = product(
        normed, channels, weight, row, column + inner_size,
        num_rows, num_channels, width, first, last, BLOCK_K, PRUNED,
    )  # fmt: skip
    inside = column < inner_size
    written = (row < num_rows)[:, None] & inside[None, :]
    if SPLIT:
        step, at = num_rows * width, row[:, None] * width + column[None, :]
        tl.store(partial + split * step + at, gate, mask=written)
        tl.store(partial + split * step + at + inner_size, up, mask=written)
        is_last = ends_last(counters + tile * parts + part, splits)
        written = only_if(is_last.to(tl.int32), written)
        gate = sum_of_parts(partial, at, step, splits, written)
        up = sum_of_parts(partial, at + inner_size, step, splits, written)
    gate += biases(bias, column, inside, biased)
    up += biases(bias + inner_size, column, inside, biased)
    numbers = narrowed(activated(gate, up, silu), output.dtype.element_ty)
    tl.store(output + row[:, None] * inner_size + column[None, :], numbers, mask=written)


@triton.jit
def keep_heaviest(
    inner, norms, inner_kept, bit_widths, output, channels, inner_size, quantising,
    BLOCK: tl.constexpr, LISTED: tl.constexpr, QUANT_BLOCK: tl.constexpr,
):  # fmt: skip
    """One row of ``keep_heaviest_rows``; all but norms are its own. Returns: as ``store_kept``."""
    channel = tl.arange(0, BLOCK)
    inside = channel < inner_size
    numbers = tl.load(inner + channel, mask=inside, other=0.0).to(tl.float32)
    weights = numbers * tl.load(norms + channel, mask=inside, other=0.0)
    order, kept = magnitude_order(weights, inside), tl.load(inner_kept).to(tl.int32)
    bits = tl.load(bit_widths, mask=quantising != 0, other=16)
    return store_kept(
        numbers, order, kept, bits, output, channels, inner_size, True, LISTED, QUANT_BLOCK
    )


@triton.jit(do_not_specialize=["quantising"])
def keep_heaviest_rows(
    inner, norms, inner_kept, bit_widths, inner_size, quantising,
    BLOCK: tl.constexpr, QUANT_BLOCK: tl.constexpr,
):  # fmt: skip
    """All but the ``inner_kept`` [R] int64 channels of largest |inner · norm| become 0, and those
    are quantised to bit_widths [R] if ``quantising``: inner [R, I], changed; norms [I] fp32."""
    row = tl.program_id(0)
    inner += row.to(tl.int64) * inner_size
    keep_heaviest(
        inner, norms, inner_kept + row, bit_widths + row, inner, inner, inner_size, quantising,
        BLOCK, False, QUANT_BLOCK,
    )  # fmt: skip


@triton.jit(do_not_specialize=["num_rows", "quantising", "biased"])
def down_rows(
    inner, norms, inner_kept, bit_widths, prepared, channels, counts, inner_size, width, quantising,
    weight, bias, partial, output, counters, num_rows, biased,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK: tl.constexpr,
    PRUNES: tl.constexpr, LISTED: tl.constexpr, SPLIT: tl.constexpr, QUANT_BLOCK: tl.constexpr,
):  # fmt: skip
    """inner [R, I] @ weight [I, C] + bias → output [R, C].

    Args:
        norms, inner_kept: as of ``keep_heaviest_rows``. If PRUNES, for a single row, every program
            fills a line of its own of prepared and channels, [programs, I], and of what is kept
            quantises to bit_widths [R] if ``quantising``.
        channels: [tiles, I] int32, counts: [tiles] int32: which rows of the weight each tile
            reads, if LISTED and not PRUNES; if neither, all.
        partial: [splits, R, C] fp32, written if SPLIT. counters: [tiles, parts] int32 zeros.
    """
    tile, part, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    parts, splits = tl.num_programs(1), tl.num_programs(2)
    row = tile * BLOCK_M + tl.arange(0, BLOCK_M)
    column = part * BLOCK_N + tl.arange(0, BLOCK_N)
    count = inner_size
    if PRUNES:
        line = (part * splits + split) * inner_size
        prepared += line
        channels += line
        count = keep_heaviest(
            inner, norms, inner_kept, bit_widths, prepared, channels, inner_size, quantising,
            BLOCK, True, QUANT_BLOCK,
        )  # fmt: skip
        inner = prepared
        tl.debug_barrier()
    elif LISTED:
        count = tl.load(counts + tile)
        channels += tile * inner_size
    first, last = split_range(count, split, splits, BLOCK_K)
    total = product(
        inner, channels, weight, row, column,
        num_rows, inner_size, width, first, last, BLOCK_K, LISTED,
    )  # fmt: skip
    inside = column < width
    written = (row < num_rows)[:, None] & inside[None, :]
    at = row[:, None] * width + column[None, :]
    if SPLIT:
        tl.store(partial + split * num_rows * width + at, total, mask=written)
        is_last = ends_last(counters + tile * parts + part, splits)
        written = only_if(is_last.to(tl.int32), written)
        total = sum_of_parts(partial, at, num_rows * width, splits, written)
    total += biases(bias, column, inside, biased)
    tl.store(output + at, narrowed(total, output.dtype.element_ty), mask=written)


@triton.jit(do_not_specialize=["silu"])
def activate_rows(gate_up, output, inner_size, silu, BLOCK: tl.constexpr):
    """gate_up [R, 2·I], gate first → activated [R, I]."""
    row = tl.program_id(0)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < inner_size
    gate_up += row.to(tl.int64) * (2 * inner_size) + column
    gate = tl.load(gate_up, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gate_up + inner_size, mask=inside, other=0.0).to(tl.float32)
    numbers = narrowed(activated(gate, up, silu), output.dtype.element_ty)
    tl.store(output + row.to(tl.int64) * inner_size + column, numbers, mask=inside)
