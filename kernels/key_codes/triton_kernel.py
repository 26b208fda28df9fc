"""4-bit keys on CUDA: one key encoded, to the definition's numbers.

Channels in the low halves of an octet's bytes are looked at together, and those in the high ones.
"""

from __future__ import annotations

import triton
import triton.language as tl

from kernels import key_codes
from kernels.gpu.triton_helpers import narrowed, round_half_even

INFINITY = tl.constexpr(float("inf"))
OCTET = tl.constexpr(key_codes.OCTET)
HIGHEST_CODE = tl.constexpr(float(key_codes.HIGHEST_CODE))
HIGHEST_QUERY = tl.constexpr(float(key_codes.HIGHEST_QUERY))
LEAST_SCALE = tl.constexpr(key_codes.LEAST_SCALE)


@triton.jit
def low_channels(HALF: tl.constexpr):
    """(channel in a byte's low half, that byte's index in its octet for token 0), each [HALF]."""
    half = tl.arange(0, HALF)
    line, inner = half // 4, half % 4
    return 8 * line + inner, 32 * line + inner


@triton.jit
def coded(numbers, minimum, scale):
    """Codes 0 to 15 of numbers [HALF]."""
    steps = tl.div_rn(numbers - minimum, scale + tl.zeros_like(numbers))
    return round_half_even(tl.minimum(tl.maximum(steps, 0.0), HIGHEST_CODE)).to(tl.uint8)


@triton.jit
def encode_key(low, high, inside):
    """``encode_keys`` of one key, given the channels of low and of high halves [HALF] fp32.

    Returns: bytes [HALF] uint8, scale and minimum, bf16.
    """
    least = tl.min(tl.where(inside, tl.minimum(low, high), INFINITY), 0)
    most = tl.max(tl.where(inside, tl.maximum(low, high), -INFINITY), 0)
    minimum = narrowed(least, tl.bfloat16)
    # Codes are found for the two numbers as they are stored.
    stored = minimum.to(tl.float32)
    scale = narrowed(tl.div_rn(most - stored, HIGHEST_CODE), tl.bfloat16)
    step = tl.maximum(scale.to(tl.float32), LEAST_SCALE)
    return coded(low, stored, step) | (coded(high, stored, step) << 4), scale, minimum
