"""Quantised rows times an int8 matrix on CUDA, in whole numbers until the last step.

``quantise_tokens_rows`` rounds the activations, ``list_channels`` (of the gated MLP) joins
the channels that are not 0 in some row of a tile, ``integer_product_rows`` reads those
channels' weights and sums in int32, ``scale_sums_rows`` adds the splits and scales back.
"""

from __future__ import annotations

import triton
import triton.language as tl

from kernels.activation_quantisation.triton_kernel import token_scale
from kernels.gated_mlp.triton_kernel import split_range
from kernels.gpu.triton_helpers import round_half_even


@triton.jit(do_not_specialize=["num_channels"])
def quantise_tokens_rows(
    activations, bit_widths, numbers, scales, num_channels, BLOCK: tl.constexpr
):
    """activations [R, C] fp32 → numbers [R, C] int8 and scales [R] fp32; bit_widths [R] int64."""
    row = tl.program_id(0)
    channel = tl.arange(0, BLOCK)
    inside = channel < num_channels
    at = row.to(tl.int64) * num_channels + channel
    values = tl.load(activations + at, mask=inside, other=0.0)
    scale = token_scale(values, tl.load(bit_widths + row))
    whole = round_half_even(tl.div_rn(values, scale + tl.zeros_like(values)))
    whole = tl.where(whole == whole, whole, 0.0)  # the scale is NaN then, and that suffices
    tl.store(numbers + at, whole.to(tl.int8), mask=inside)
    tl.store(scales + row, scale)


@triton.jit(do_not_specialize=["num_rows", "num_channels", "width"])
def integer_product_rows(
    numbers, channels, counts, weight, partial, num_rows, num_channels, width,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """numbers [R, C] @ weight [C, N], both int8 → partial [splits, R, N] int32, one a split.

    Args:
        channels: [tiles, C] int32, counts: [tiles] int32: which channels each tile reads.
    """
    tile, part, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    row = tile * BLOCK_M + tl.arange(0, BLOCK_M)
    column = part * BLOCK_N + tl.arange(0, BLOCK_N)
    count = tl.load(counts + tile)
    first, last = split_range(count, split, tl.num_programs(2), BLOCK_K)
    channels += tile * num_channels
    total = tl.zeros([BLOCK_M, BLOCK_N], tl.int32)
    for start in range(first, last, BLOCK_K):
        slot = start + tl.arange(0, BLOCK_K)
        inside = slot < last
        channel = tl.load(channels + slot, mask=inside, other=0)
        left = tl.load(
            numbers + row[:, None] * num_channels + channel[None, :],
            mask=(row < num_rows)[:, None] & inside[None, :],
            other=0,
        )
        # A weight matrix may hold more than 2^31 numbers.
        where = channel.to(tl.int64)[:, None] * width + column[None, :]
        read = inside[:, None] & (column < width)[None, :]
        total = tl.dot(left, tl.load(weight + where, mask=read, other=0), total)
    written = (row < num_rows)[:, None] & (column < width)[None, :]
    tl.store(partial + (split * num_rows + row)[:, None] * width + column[None, :], total, written)


@triton.jit(do_not_specialize=["num_rows", "width", "splits"])
def scale_sums_rows(
    partial, row_scales, column_scales, output, num_rows, width, splits, BLOCK: tl.constexpr
):
    """partial [splits, R, N] int32 → output [R, N] fp32: summed, times both scales."""
    row = tl.program_id(0)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < width
    total = tl.zeros([BLOCK], tl.int32)
    for split in range(0, splits):
        at = partial + (split * num_rows + row) * width + column
        total += tl.load(at, mask=inside, other=0)
    scale = tl.load(row_scales + row) * tl.load(column_scales + column, mask=inside, other=0.0)
    tl.store(output + row * width + column, total.to(tl.float32) * scale, mask=inside)
