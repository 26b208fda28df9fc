"""RMS norm on CUDA: a row is read once."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["num_channels", "epsilon"])
def rms_norm_rows(hidden, weight, output, num_channels, epsilon, BLOCK: tl.constexpr):
    """hidden [R, C] fp32 → output [R, C] fp32; weight [C] fp32."""
    row = tl.program_id(0)
    channel = tl.arange(0, BLOCK)
    inside = channel < num_channels
    at = row.to(tl.int64) * num_channels + channel
    numbers = tl.load(hidden + at, mask=inside, other=0.0)
    scale = tl.sqrt_rn(tl.sum(numbers * numbers, 0) / num_channels + epsilon)
    weights = tl.load(weight + channel, mask=inside, other=0.0)
    tl.store(output + at, numbers / scale * weights, mask=inside)
