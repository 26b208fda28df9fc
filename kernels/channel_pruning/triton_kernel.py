"""Magnitude pruning on CUDA; ``largest_only`` is also fused into the MLP's kernels."""

from __future__ import annotations

import triton
import triton.language as tl

from kernels.gpu.triton_helpers import choose_largest


@triton.jit
def magnitude_order(numbers, inside):
    """Magnitudes of fp32 numbers as unsigned integers in their order, above 0; 0 outside."""
    patterns = (numbers.to(tl.int32, bitcast=True) & 0x7FFFFFFF).to(tl.uint32, bitcast=True)
    return tl.where(inside, patterns + 1, 0).to(tl.uint32)


@triton.jit
def largest_only(numbers, inside, kept):
    """The ``kept`` numbers of largest magnitude of one row [N] fp32, ties to the lowest; else 0."""
    chosen, _, _ = choose_largest(magnitude_order(numbers, inside), kept)
    return tl.where(chosen, numbers, 0.0)


@triton.jit(do_not_specialize=["num_channels"])
def keep_largest_rows(hidden, channels_kept, output, num_channels, BLOCK: tl.constexpr):
    """hidden [R, C] → output [R, C], fp32; channels_kept [R] int64."""
    row = tl.program_id(0)
    channel = tl.arange(0, BLOCK)
    inside = channel < num_channels
    at = row.to(tl.int64) * num_channels + channel
    numbers = tl.load(hidden + at, mask=inside, other=0.0)
    numbers = largest_only(numbers, inside, tl.load(channels_kept + row).to(tl.int32))
    tl.store(output + at, numbers, mask=inside)
