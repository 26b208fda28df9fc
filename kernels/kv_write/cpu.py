"""Storing one new token per row, and its page's bounds, in one pass; in Numba."""

from __future__ import annotations

import numba

from kernels.cpu.compiling import team_kernel
from kernels.cpu.numba_helpers import widen


@team_kernel
def write_rows(new, buffers, bounds, slots, page_size):
    """``write_token`` of keys and values and, for a page size above 0, ``extend_bounds``.

    Args:
        new: keys and values, two [R, Hkv, D]; float32, or bfloat16 as uint16 patterns.
        buffers: keys and values, two [R, Hkv, S, D] of the same type, changed.
        bounds: minima and maxima, two [R, Hkv, P, D] of the same type, changed.
        slots: [R] int64.
    """
    new_keys, new_values = new
    keys, values = buffers
    page_min, page_max = bounds
    for row in numba.prange(new_keys.shape[0]):
        slot = slots[row]
        page = slot // page_size if page_size > 0 else 0
        for head in range(new_keys.shape[1]):
            for d in range(new_keys.shape[2]):
                keys[row, head, slot, d] = new_keys[row, head, d]
                values[row, head, slot, d] = new_values[row, head, d]
            if page_size > 0:
                for d in range(new_keys.shape[2]):
                    key = new_keys[row, head, d]
                    if widen(key) < widen(page_min[row, head, page, d]):
                        page_min[row, head, page, d] = key
                    if widen(key) > widen(page_max[row, head, page, d]):
                        page_max[row, head, page, d] = key
