"""Storing one new token per row, and its page's bounds or 4-bit key, in one pass; in Numba."""

from __future__ import annotations

import numba

from kernels.cpu.compiling import team_kernel
from kernels.cpu.numba_helpers import widen
from kernels.key_codes.cpu import encode_key
from kernels.key_codes.reference import OCTET


@team_kernel
def write_rows(new, buffers, bounds, codes, slots, page_size):
    """``write_token`` of keys and values, for a page size above 0 ``extend_bounds``, and for codes
    that have rows ``extend_codes``.

    Args:
        new: keys and values, two [R, Hkv, D]; float32, or bfloat16 as uint16 patterns.
        buffers: keys and values, two [R, Hkv, S, D] of the same type, changed.
        bounds: minima and maxima, two [R, Hkv, P, D] of the same type, changed.
        codes: [R · Hkv · O, 4 D] uint8 and scales [R · Hkv · O, 16] uint16 patterns, changed.
        slots: [R] int64.
    """
    new_keys, new_values = new
    keys, values = buffers
    num_heads, capacity, size = keys.shape[1], keys.shape[2], keys.shape[3]
    lines = keys.reshape(keys.shape[0] * num_heads * capacity, size)
    octets = codes[0].shape[0] // (keys.shape[0] * num_heads)
    page_min, page_max = bounds
    for row in numba.prange(new_keys.shape[0]):
        slot = slots[row]
        page = slot // page_size if page_size > 0 else 0
        for head in range(new_keys.shape[1]):
            for d in range(new_keys.shape[2]):
                keys[row, head, slot, d] = new_keys[row, head, d]
                values[row, head, slot, d] = new_values[row, head, d]
            if octets > 0:
                pair = row * num_heads + head
                octet = pair * octets + slot // OCTET
                line = pair * capacity + slot
                encode_key(lines, line, codes[0], codes[1], octet, slot % OCTET)
            if page_size > 0:
                for d in range(new_keys.shape[2]):
                    key = new_keys[row, head, d]
                    if widen(key) < widen(page_min[row, head, page, d]):
                        page_min[row, head, page, d] = key
                    if widen(key) > widen(page_max[row, head, page, d]):
                        page_max[row, head, page, d] = key
