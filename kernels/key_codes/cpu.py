"""4-bit keys for a step of a few rows: one key encoded, queries rounded; in Numba.

The definition's numbers, bit for bit.
"""

import numba
import numpy as np

from kernels.cpu.compiling import helper, team_kernel
from kernels.cpu.numba_helpers import TO_EVEN, narrow, widen
from kernels.key_codes import HIGHEST_CODE, HIGHEST_QUERY, LEAST_SCALE, OCTET

_CODE, _QUERY, _LEAST = np.float32(HIGHEST_CODE), np.float32(HIGHEST_QUERY), np.float32(LEAST_SCALE)


@helper
def encode_key(keys, line, codes, scales, octet, token):
    """Write one token's codes, scale and minimum.

    Args:
        keys: [X, D], stored keys; ``line`` is the token's.
        codes: [Y, 4 D] uint8; scales: [Y, 16] uint16, bf16 bit patterns; both changed.
        octet: row of the two; token: 0 to 7.
    """
    size = keys.shape[1]
    low = high = widen(keys[line, 0])
    for d in range(1, size):
        value = widen(keys[line, d])
        low, high = min(low, value), max(high, value)
    scales[octet, OCTET + token] = narrow(low, scales)
    low = widen(scales[octet, OCTET + token])
    scales[octet, token] = narrow((high - low) / _CODE, scales)
    scale = max(widen(scales[octet, token]), _LEAST)
    for block in range(size // OCTET):
        for channel in range(4):
            at = OCTET * block + channel
            first = np.rint((widen(keys[line, at]) - low) / scale)
            second = np.rint((widen(keys[line, at + 4]) - low) / scale)
            first = min(max(first, np.float32(0.0)), _CODE)
            second = min(max(second, np.float32(0.0)), _CODE)
            byte = np.uint8(first) | np.uint8(np.uint8(second) << np.uint8(4))
            codes[octet, 32 * block + 4 * token + channel] = byte


@team_kernel
def encode_range(keys, codes, scales, start, end):
    """``encode_tokens``.

    Args:
        keys: [R, H, S, D] float32, or bf16 as uint16 bit patterns.
        codes: [R, H, O, 4 D] uint8; scales: [R, H, O, 16] uint16, bf16 bit patterns; both changed.
    """
    heads, first, last = keys.shape[1], start // OCTET, (end + OCTET - 1) // OCTET
    for task in numba.prange(keys.shape[0] * heads * (last - first)):
        pair, octet = task // (last - first), first + task % (last - first)
        row, head = pair // heads, pair % heads
        for token in range(min(OCTET, keys.shape[2] - OCTET * octet)):
            line = OCTET * octet + token
            encode_key(keys[row, head], line, codes[row, head], scales[row, head], octet, token)


@helper
def round_rows(queries, rounded, units):
    """Queries in whole numbers.

    Args:
        queries: [V, D] float32, contiguous.
        rounded: [V, D] int8, overwritten.
        units: [V, 2] float32, overwritten: what 1 stands for, and the sum of the whole numbers.
    """
    bits, size = queries.view(np.uint32), np.uint64(queries.shape[1])
    for v in range(queries.shape[0]):
        largest = np.uint32(0)
        for d in range(size):
            largest = max(largest, np.uint32(bits[v, d] & np.uint32(0x7FFFFFFF)))
        unit = max(np.uint32(largest).view(np.float32) / _QUERY, _LEAST)
        total = np.int32(0)
        for d in range(size):
            number = np.int32((queries[v, d] / unit + TO_EVEN) - TO_EVEN)  # at most 127 in size
            total = np.int32(total + number)
            rounded[v, d] = np.int8(number)
        units[v, 0], units[v, 1] = unit, np.float32(total)
