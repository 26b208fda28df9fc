"""Storing one new token per row, with its page's bounds or its 4-bit key, on CUDA in one launch."""

from __future__ import annotations

import triton
import triton.language as tl

from kernels.gpu.triton_helpers import narrowed
from kernels.key_codes.triton_kernel import OCTET, encode_key, low_channels


@triton.jit(
    do_not_specialize=[
        "num_heads", "head_size", "capacity", "num_pages", "page_size", "num_octets",
        "row_stride", "head_stride",
    ]
)  # fmt: skip
def write_rows(
    new_keys, new_values, keys, values, page_min, page_max, codes, scales, slots,
    num_heads, head_size, capacity, num_pages, page_size, num_octets, row_stride, head_stride,
    HEAD: tl.constexpr,
):  # fmt: skip
    """One row and KV head a program.

    Args:
        new_keys, new_values: [R, Hkv, D], numbers of a head one after another, with the
            strides given. keys, values: [R, Hkv, capacity, D], changed.
        page_min, page_max: [R, Hkv, num_pages, D], changed unless ``page_size`` is 0.
        codes: [R, Hkv, num_octets, 4 D] uint8, scales: [R, Hkv, num_octets, 16] bf16, changed
            unless ``num_octets`` is 0.
        slots: [R] int64.
    """
    row, head = tl.program_id(0), tl.program_id(1)
    head_size = tl.multiple_of(head_size, 8)
    channel = tl.arange(0, HEAD)
    inside = channel < head_size
    at = row.to(tl.int64) * row_stride + head * head_stride + channel
    key = tl.load(new_keys + at, mask=inside, other=0.0)
    value = tl.load(new_values + at, mask=inside, other=0.0)
    key = narrowed(key.to(tl.float32), keys.dtype.element_ty)
    value = narrowed(value.to(tl.float32), values.dtype.element_ty)
    slot = tl.load(slots + row)
    sequence = row.to(tl.int64) * num_heads + head
    where = (sequence * capacity + slot) * head_size + channel
    tl.store(keys + where, key, mask=inside)
    tl.store(values + where, value, mask=inside)
    if page_size > 0:
        where = (sequence * num_pages + slot // page_size) * head_size + channel
        wide = key.to(tl.float32)
        low = tl.load(page_min + where, mask=inside, other=0.0)
        high = tl.load(page_max + where, mask=inside, other=0.0)
        tl.store(page_min + where, key, mask=inside & (wide < low.to(tl.float32)))
        tl.store(page_max + where, key, mask=inside & (wide > high.to(tl.float32)))
    if num_octets > 0:
        low_channel, byte = low_channels(HEAD // 2)
        there = low_channel < head_size
        halves = new_keys + row.to(tl.int64) * row_stride + head * head_stride + low_channel
        # Of the keys as they are stored.
        first = tl.load(halves, mask=there, other=0.0).to(tl.float32)
        second = tl.load(halves + 4, mask=there, other=0.0).to(tl.float32)
        first = narrowed(first, keys.dtype.element_ty).to(tl.float32)
        second = narrowed(second, keys.dtype.element_ty).to(tl.float32)
        coded, scale, minimum = encode_key(first, second, there)
        octet, token = sequence * num_octets + slot // OCTET, slot % OCTET
        tl.store(codes + octet * (4 * head_size) + 4 * token + byte, coded, mask=there)
        tl.store(scales + octet * (2 * OCTET) + token, scale)
        tl.store(scales + octet * (2 * OCTET) + OCTET + token, minimum)
