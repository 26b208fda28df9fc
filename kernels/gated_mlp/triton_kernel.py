"""The gated MLP of a decode step on CUDA, reading the weights of kept channels only.

``enter_rows`` of ``kernels/residual`` prunes and quantises the input, ``list_channels`` joins the
kept channels of up to BLOCK_M rows, ``gate_up_rows`` reads those channels' weights (a channel is a
contiguous line of an [in, out] matrix) and applies the activation, ``finish_rows`` does
that where the channels were split over programs or the inner activations are quantised,
``keep_heaviest_rows`` prunes what is between the projections (``list_channels`` joins the rows'
again), ``down_rows`` multiplies back and ``finish_rows`` sums, rounds and quantises the output.
A single row's channels are listed by the kernels that prune it.
"""

from __future__ import annotations

import triton
import triton.language as tl

from kernels.activation_quantisation.triton_kernel import quantised
from kernels.gpu.triton_helpers import (
    choose_largest,
    dot_narrow,
    magnitude_order,
    narrowed,
    only_if,
)


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


@triton.jit(do_not_specialize=["num_rows", "biased", "silu"])
def gate_up_rows(
    prepared, channels, counts, weight, bias, output,
    num_rows, num_channels, inner_size, biased, silu,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
    FUSED: tl.constexpr,
):  # fmt: skip
    """Gate and up projections of kept channels.

    Args:
        prepared: [R, C], weight: [C, 2·I] and bias [2·I] of one dtype; gate first.
        output: FUSED, one split: [R, I] of that dtype, activated; otherwise
            [splits, R, 2·I] fp32, partial sums without bias.
    """
    tile, part, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    row = tile * BLOCK_M + tl.arange(0, BLOCK_M)
    column = part * BLOCK_N + tl.arange(0, BLOCK_N)
    count = tl.load(counts + tile)
    first, last = split_range(count, split, tl.num_programs(2), BLOCK_K)
    channels += tile * num_channels
    width = 2 * inner_size
    gate = product(
        prepared, channels, weight, row, column,
        num_rows, num_channels, width, first, last, BLOCK_K, True,
    )  # fmt: skip
    up = product(
        prepared, channels, weight, row, column + inner_size,
        num_rows, num_channels, width, first, last, BLOCK_K, True,
    )  # fmt: skip
    written = (row < num_rows)[:, None] & (column < inner_size)[None, :]
    if FUSED:
        biases = only_if(biased, column < inner_size)
        gate += tl.load(bias + column, mask=biases, other=0.0).to(tl.float32)[None, :]
        up += tl.load(bias + inner_size + column, mask=biases, other=0.0).to(tl.float32)[None, :]
        numbers = narrowed(activated(gate, up, silu), output.dtype.element_ty)
        tl.store(output + row[:, None] * inner_size + column[None, :], numbers, mask=written)
    else:
        at = output + (split * num_rows + row)[:, None] * width + column[None, :]
        tl.store(at, gate, mask=written)
        tl.store(at + inner_size, up, mask=written)


@triton.jit
def weight_order(inner, norms, channel, inside):
    """|inner · norm| of one row as integers in their order, above 0."""
    weights = tl.load(inner + channel, mask=inside, other=0.0).to(tl.float32)
    weights *= tl.load(norms + channel, mask=inside, other=0.0)
    return magnitude_order(weights, inside)


@triton.jit
def keep_heaviest_rows(
    inner, norms, inner_kept, channels, counts, inner_size,
    BLOCK: tl.constexpr, LISTED: tl.constexpr,
):  # fmt: skip
    """All but the ``inner_kept`` channels of largest |inner · norm| become 0.

    Args:
        inner: [R, I], changed. norms: [I] fp32. inner_kept: [R] int64.
        channels: [1, I] int32, counts: [1] int32; written if LISTED, for a single row: the
            channels that are kept and not 0, ascending.
    """
    row = tl.program_id(0)
    inner += row.to(tl.int64) * inner_size
    channel = tl.arange(0, BLOCK)
    order = weight_order(inner, norms, channel, channel < inner_size)
    _, threshold, last = choose_largest(order, tl.load(inner_kept + row).to(tl.int32))
    count = 0
    # In parts, and from memory again: masks of the whole row would spill registers.
    for start in range(0, inner_size, 1024):
        part = start + tl.arange(0, 1024)
        inside = part < inner_size
        again = weight_order(inner, norms, part, inside)
        dropped = (again < threshold) | ((again == threshold) & (part > last))
        if LISTED:
            numbers = tl.load(inner + part, mask=inside, other=0.0).to(tl.float32)
            used = (inside & (numbers != 0.0) & (dropped == 0)).to(tl.int32)
            tl.store(channels + count + tl.cumsum(used, 0) - 1, part, mask=used > 0)
            count += tl.sum(used, 0)
        tl.store(inner + part, tl.zeros([1024], inner.dtype.element_ty), mask=dropped & inside)
    if LISTED:
        tl.store(counts, count)


@triton.jit(do_not_specialize=["num_rows"])
def down_rows(
    inner, channels, counts, weight, partial, num_rows, inner_size, width,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, LISTED: tl.constexpr,
):  # fmt: skip
    """inner [R, I] @ weight [I, C] → partial [splits, R, C] fp32, one part a split.

    Args:
        channels: [tiles, I] int32, counts: [tiles] int32: which rows of the weight each tile
            reads, if LISTED; else all.
    """
    tile, part, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    row = tile * BLOCK_M + tl.arange(0, BLOCK_M)
    column = part * BLOCK_N + tl.arange(0, BLOCK_N)
    count = inner_size
    if LISTED:
        count = tl.load(counts + tile)
        channels += tile * inner_size
    first, last = split_range(count, split, tl.num_programs(2), BLOCK_K)
    total = product(
        inner, channels, weight, row, column,
        num_rows, inner_size, width, first, last, BLOCK_K, LISTED,
    )  # fmt: skip
    written = (row < num_rows)[:, None] & (column < width)[None, :]
    at = partial + (split * num_rows + row)[:, None] * width + column[None, :]
    tl.store(at, total, mask=written)


@triton.jit
def summed(partial, bias, column, inside, step, splits, biased):
    """Some columns of one row, of which ``splits`` parts lie a step apart, and their bias; fp32."""
    total = tl.load(bias + column, mask=only_if(biased, inside), other=0.0).to(tl.float32)
    for split in range(0, splits):
        total += tl.load(partial + split * step + column, mask=inside, other=0.0).to(tl.float32)
    return total


@triton.jit(do_not_specialize=["num_rows", "splits", "biased", "quantising", "silu"])
def finish_rows(
    partial, bias, bit_widths, output, num_rows, width, splits, biased, quantising, silu,
    BLOCK: tl.constexpr, QUANT_BLOCK: tl.constexpr, GATED: tl.constexpr,
):  # fmt: skip
    """partial [splits, R, C] → output [R, C]: summed, rounded, quantised if flagged.

    If GATED, partial is [splits, R, 2·C], gate first, and what is summed is activated.
    """
    row = tl.program_id(0)
    column = tl.arange(0, BLOCK)
    inside = column < width
    read = width
    if GATED:
        read = 2 * width
    partial += row * read
    numbers = summed(partial, bias, column, inside, num_rows * read, splits, biased)
    if GATED:
        up = summed(partial, bias, column + width, inside, num_rows * read, splits, biased)
        numbers = activated(numbers, up, silu)
    numbers = narrowed(numbers, output.dtype.element_ty).to(tl.float32)
    bits = tl.load(bit_widths + row, mask=quantising != 0, other=16)
    numbers = quantised(numbers, bits, QUANT_BLOCK)
    numbers = narrowed(numbers, output.dtype.element_ty)
    tl.store(output + row * width + column, numbers, mask=inside)
