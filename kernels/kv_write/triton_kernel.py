"""One new token per row on CUDA, in one launch: queries rotated, keys and values stored, and the
keys' 4-bit copies."""

from __future__ import annotations

import triton
import triton.language as tl

from kernels.gpu.triton_helpers import narrowed
from kernels.key_codes.triton_kernel import OCTET, encode_key, low_channels


@triton.jit
def rotated_at(head, cosine, sine, channel, inside, head_size):
    """Channels of one head, each turned with the one that is half a head away, as fp32."""
    half = head_size // 2
    partner = tl.where(channel < half, channel + half, channel - half)
    number = tl.load(head + channel, mask=inside, other=0.0).to(tl.float32)
    other = tl.load(head + partner, mask=inside, other=0.0).to(tl.float32)
    other = tl.where(channel < half, -other, other)
    turned = number * tl.load(cosine + channel, mask=inside, other=0.0)
    return turned + other * tl.load(sine + channel, mask=inside, other=0.0)


@triton.jit(do_not_specialize=["num_heads", "num_kv_heads", "capacity", "num_octets", "scale"])
def rotate_and_write_rows(
    heads, cosine, sine, query, keys, values, codes, scales, slots,
    num_heads, num_kv_heads, head_size, capacity, num_octets, scale,
    HEAD: tl.constexpr,
):  # fmt: skip
    """One row and one head of queries or keys a program; a key's takes its value, too.

    Args:
        heads: [R, H + 2 Hkv, D] of any float dtype. cosine, sine: [R, D] fp32.
        query: [R, H, D] fp32, written: rotated and scaled.
        keys, values: [R, Hkv, capacity, D], changed.
        codes: [R, Hkv, num_octets, 4 D] uint8, scales: [R, Hkv, num_octets, 16] bf16, changed
            unless ``num_octets`` is 0.
        slots: [R] int64.
    """
    row, head = tl.program_id(0), tl.program_id(1)
    channel = tl.arange(0, HEAD)
    inside = channel < head_size
    cosine += row * head_size
    sine += row * head_size
    here = heads + (row.to(tl.int64) * (num_heads + 2 * num_kv_heads) + head) * head_size
    turned = rotated_at(here, cosine, sine, channel, inside, head_size)
    if head < num_heads:
        at = (row.to(tl.int64) * num_heads + head) * head_size + channel
        tl.store(query + at, turned * scale, mask=inside)
    else:
        sequence = row.to(tl.int64) * num_kv_heads + head - num_heads
        slot = tl.load(slots + row)
        at = (sequence * capacity + slot) * head_size + channel
        tl.store(keys + at, narrowed(turned, keys.dtype.element_ty), mask=inside)
        value = tl.load(here + num_kv_heads * head_size + channel, mask=inside, other=0.0)
        value = narrowed(value.to(tl.float32), values.dtype.element_ty)
        tl.store(values + at, value, mask=inside)
        if num_octets > 0:
            low, byte = low_channels(HEAD // 2)
            there = low < head_size
            # Of the keys as they are stored.
            first = rotated_at(here, cosine, sine, low, there, head_size)
            second = rotated_at(here, cosine, sine, low + 4, there, head_size)
            first = narrowed(first, keys.dtype.element_ty).to(tl.float32)
            second = narrowed(second, keys.dtype.element_ty).to(tl.float32)
            coded, step, minimum = encode_key(first, second, there)
            octet, token = sequence * num_octets + slot // OCTET, slot % OCTET
            tl.store(codes + octet * (4 * head_size) + 4 * token + byte, coded, mask=there)
            tl.store(scales + octet * (2 * OCTET) + token, step)
            tl.store(scales + octet * (2 * OCTET) + OCTET + token, minimum)
