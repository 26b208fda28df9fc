"""Storing one new token per row, and its page's bounds, on CUDA in one launch."""

from __future__ import annotations

import triton
import triton.language as tl

from kernels.gpu.triton_helpers import narrowed

__all__ = ["write_rows"]


@triton.jit(
    do_not_specialize=[
        "num_heads", "head_size", "capacity", "num_pages", "page_size", "row_stride", "head_stride"
    ]
)  # fmt: skip
def write_rows(
    new_keys, new_values, keys, values, page_min, page_max, slots,
    num_heads, head_size, capacity, num_pages, page_size, row_stride, head_stride,
    HEAD: tl.constexpr,
):  # fmt: skip
    """One row and KV head a program.

    Args:
        new_keys, new_values: [R, Hkv, D], numbers of a head one after another, with the
            strides given. keys, values: [R, Hkv, capacity, D], changed.
        page_min, page_max: [R, Hkv, num_pages, D], changed unless ``page_size`` is 0.
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
