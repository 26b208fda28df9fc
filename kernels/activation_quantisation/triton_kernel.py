"""Fake quantisation of one row on CUDA, per token or by blocks."""

from __future__ import annotations

import triton
import triton.language as tl

from kernels.gpu.triton_helpers import round_half_even
from kernels.quantisation_levels import SCALE_FLOOR, UNTOUCHED_BITS

FLOOR = tl.constexpr(SCALE_FLOOR)
UNTOUCHED = tl.constexpr(UNTOUCHED_BITS)


@triton.jit
def shared_scales(numbers, bits):
    """Scale of each row of [B, N] fp32, 0 where padded, at a number of bits; NaN if one is."""
    # Without the sign bit, patterns are in the order of the magnitudes, and NaN is largest.
    patterns = numbers.to(tl.int32, bitcast=True) & 0x7FFFFFFF
    peak = tl.max(patterns, 1).to(tl.float32, bitcast=True)
    levels = ((1 << (bits.to(tl.int32) - 1)) - 1).to(tl.float32)
    scale = tl.div_rn(peak, levels + tl.zeros_like(peak))
    return tl.where(scale < FLOOR, FLOOR, scale)


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
    scales = shared_scales(blocks, bits)[:, None] + tl.zeros_like(blocks)
    rounded = tl.reshape(round_half_even(tl.div_rn(blocks, scales)) * scales, [size])
    return tl.where(bits < UNTOUCHED, rounded, numbers)
