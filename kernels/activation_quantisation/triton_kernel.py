"""Per-token fake quantisation on CUDA; ``quantised`` is also fused into the MLP's kernels."""

from __future__ import annotations

import triton
import triton.language as tl

from kernels.gpu.triton_helpers import narrowed, round_half_even
from kernels.quantisation_levels import SCALE_FLOOR, UNTOUCHED_BITS

FLOOR = tl.constexpr(SCALE_FLOOR)
UNTOUCHED = tl.constexpr(UNTOUCHED_BITS)


@triton.jit
def token_scale(numbers, bits):
    """The scale of one row [N] fp32, 0 where padded, at a number of bits; NaN if one is."""
    # Without the sign bit, patterns are in the order of the magnitudes, and NaN is largest.
    patterns = numbers.to(tl.int32, bitcast=True) & 0x7FFFFFFF
    peak = tl.max(patterns, 0).to(tl.float32, bitcast=True)
    levels = ((1 << (bits.to(tl.int32) - 1)) - 1).to(tl.float32)
    scale = tl.div_rn(peak, levels)
    return tl.where(scale < FLOOR, FLOOR, scale)


@triton.jit
def quantised(numbers, bits):
    """``fake_quantise`` of one row, the reference's operations in its order.

    Args:
        numbers: [N] fp32, 0 where padded. bits: scalar in [2, 16].
    """
    scale = token_scale(numbers, bits)
    rounded = round_half_even(tl.div_rn(numbers, scale + tl.zeros_like(numbers))) * scale
    return tl.where(bits < UNTOUCHED, rounded, numbers)


@triton.jit(do_not_specialize=["num_channels"])
def fake_quantise_rows(activations, bit_widths, output, num_channels, BLOCK: tl.constexpr):
    """activations [R, C] → output [R, C] of the same dtype; bit_widths [R] int64."""
    row = tl.program_id(0)
    channel = tl.arange(0, BLOCK)
    inside = channel < num_channels
    at = row.to(tl.int64) * num_channels + channel
    numbers = tl.load(activations + at, mask=inside, other=0.0).to(tl.float32)
    numbers = quantised(numbers, tl.load(bit_widths + row))
    tl.store(output + at, narrowed(numbers, output.dtype.element_ty), mask=inside)
