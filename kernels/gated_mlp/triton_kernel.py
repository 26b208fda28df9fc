"""The gated MLP of a decode step on CUDA, reading the weights of kept channels only.

A channel is a contiguous line of an [in, out] matrix. A single short row is prepared by every
program of a product for itself: that takes as long as once, and no launch. Several rows, and long
ones, are prepared by ``prepare_rows`` (``kernels/residual``), and ``list_channels`` joins the kept
channels of up to BLOCK_M rows.
"""

from __future__ import annotations

import triton
import triton.language as tl

from kernels.gpu.triton_helpers import dot_narrow, ends_last, narrowed, only_if
from kernels.residual.triton_kernel import prepare_row


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
        at = left + row[:, None] * num_channels + channel[None, :]
        numbers = tl.load(at, mask=(row < num_rows)[:, None] & inside[None, :], other=0.0)
        # A weight matrix may hold more than 2^31 numbers.
        where = channel.to(tl.int64)[:, None] * width + column[None, :]
        read = inside[:, None] & (column < width)[None, :]
        total = dot_narrow(numbers, tl.load(weight + where, mask=read, other=0.0), total)
    return total


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
def sums_over_splits(
    total, up, partial, row, column, num_rows, columns, split, splits, counter, written,
    GATED: tl.constexpr,
):  # fmt: skip
    """Store a split's products, of ``up`` only if GATED; a tile's last program sums all splits'.

    Returns: sums of both, and what is ``written``: nothing by a program that is not the last.
    """
    length = 2 * columns if GATED else columns
    at, step = row[:, None] * length + column[None, :], num_rows * length
    tl.store(partial + split * step + at, total, mask=written)
    if GATED:
        tl.store(partial + split * step + at + columns, up, mask=written)
    written = only_if(ends_last(counter, splits).to(tl.int32), written)
    total = sum_of_parts(partial, at, step, splits, written)
    if GATED:
        up = sum_of_parts(partial, at + columns, step, splits, written)
    return total, up, written


@triton.jit
def biases(bias, column, inside, biased):
    return tl.load(bias + column, mask=only_if(biased, inside), other=0.0).to(tl.float32)[None, :]


@triton.jit(
    do_not_specialize=[
        "epsilon", "adding", "weighted", "norming", "quantising", "silu", "num_rows", "biased",
    ]
)  # fmt: skip
def multiply_rows(
    rows, update, norm, kept, bit_widths, stream, prepared, channels, width, epsilon, adding,
    weighted, norming, quantising, counts, columns, silu,
    weight, bias, partial, output, counters, num_rows, biased,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK: tl.constexpr,
    PREPARES: tl.constexpr, LISTED: tl.constexpr, GATED: tl.constexpr, SPLIT: tl.constexpr,
    QUANT_BLOCK: tl.constexpr,
):  # fmt: skip
    """Rows @ weight + bias → output [R, N], reading the weights of listed channels; if GATED, of
    gate and up, activated.

    Args:
        rows … quantising: as of ``prepare_rows``. If PREPARES, for a single row, every program
            fills a line of its own of prepared [programs, C] and channels [programs, C].
            Otherwise prepared is [R, C], channels [tiles, C] int32 and counts [tiles] int32.
        weight: [C, N] and bias [N] of prepared's dtype; if GATED, [C, 2·N] and [2·N], gate first.
        partial: [splits, R, N or 2·N] fp32, written if SPLIT, and summed by a tile's last program.
        output: of that dtype, written. counters: [tiles, parts] int32 zeros.
    """
    tile, part, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    parts, splits = tl.num_programs(1), tl.num_programs(2)
    row = tile * BLOCK_M + tl.arange(0, BLOCK_M)
    column = part * BLOCK_N + tl.arange(0, BLOCK_N)
    count = width
    if PREPARES:
        program = part * splits + split
        prepared += program * width
        channels += program * width
        count = prepare_row(
            tile, rows, update, norm, kept, bit_widths, stream, prepared, channels, width, epsilon,
            adding, weighted, norming, quantising, kept, kept, (program == 0).to(tl.int32),
            BLOCK, LISTED, False, LISTED, QUANT_BLOCK,
        )  # fmt: skip
        tl.debug_barrier()
    elif LISTED:
        count = tl.load(counts + tile)
        channels += tile * width
    each = tl.cdiv(tl.cdiv(count, splits), BLOCK_K) * BLOCK_K
    first, last = tl.minimum(split * each, count), tl.minimum((split + 1) * each, count)
    line: tl.constexpr = 2 if GATED else 1
    length = line * columns
    total = product(
        prepared, channels, weight, row, column, num_rows, width, length, first, last, BLOCK_K,
        LISTED,
    )  # fmt: skip
    up = total
    if GATED:
        up = product(
            prepared, channels, weight, row, column + columns, num_rows, width, length, first, last,
            BLOCK_K, LISTED,
        )  # fmt: skip
    inside = column < columns
    written = (row < num_rows)[:, None] & inside[None, :]
    if SPLIT:
        total, up, written = sums_over_splits(
            total, up, partial, row, column, num_rows, columns, split, splits,
            counters + tile * parts + part, written, GATED,
        )  # fmt: skip
    total += biases(bias, column, inside, biased)
    if GATED:
        total = activated(total, up + biases(bias + columns, column, inside, biased), silu)
    numbers = narrowed(total, output.dtype.element_ty)
    tl.store(output + row[:, None] * columns + column[None, :], numbers, mask=written)


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
