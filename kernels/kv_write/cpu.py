"""Rotating heads, and storing one new token per row and its 4-bit key in one pass; in Numba."""

import numba
import numpy as np

from kernels.cpu.compiling import team_kernel
from kernels.cpu.numba_helpers import rotate_row
from kernels.key_codes import OCTET
from kernels.key_codes.cpu import encode_key


@team_kernel
def write_rows(new, buffers, codes, slots):
    """``write_token`` of keys and values, and for codes that have rows ``extend_codes``.

    Args:
        new: keys and values, two [R, Hkv, D]; float32, or bfloat16 as uint16 patterns.
        buffers: keys and values, two [R, Hkv, S, D] of the same type, changed.
        codes: [R · Hkv · O, 4 D] uint8 and scales [R · Hkv · O, 16] uint16 patterns, changed.
        slots: [R] int64.
    """
    new_keys, new_values = new
    keys, values = buffers
    num_heads, capacity, size = keys.shape[1], keys.shape[2], keys.shape[3]
    lines = keys.reshape(keys.shape[0] * num_heads * capacity, size)
    octets = codes[0].shape[0] // (keys.shape[0] * num_heads)
    for row in numba.prange(new_keys.shape[0]):
        slot = slots[row]
        for head in range(new_keys.shape[1]):
            for d in range(new_keys.shape[2]):
                keys[row, head, slot, d] = new_keys[row, head, d]
                values[row, head, slot, d] = new_values[row, head, d]
            if octets > 0:
                pair = row * num_heads + head
                octet = pair * octets + slot // OCTET
                line = pair * capacity + slot
                encode_key(lines, line, codes[0], codes[1], octet, slot % OCTET)


@team_kernel
def rotate_rows(heads, cosine, sine, rotated):
    """``rotate`` of the first n heads of [R, N, D], float32 or bfloat16 as uint16 bit patterns.

    Args:
        cosine, sine: [T, D] float32, of the T tokens of sequences that lie one after another.
        rotated: [R, n, D] float32, overwritten.
    """
    for row in numba.prange(heads.shape[0]):
        token = row % cosine.shape[0]
        for head in range(rotated.shape[1]):
            turned = rotated[row, head]
            rotate_row(heads[row, head], cosine[token], sine[token], np.float32(1.0), turned)
