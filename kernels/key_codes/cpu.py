"""4-bit keys for the step of a few rows: one key encoded, queries spread, tokens scored; in Numba.

The same numbers as ``reference.py``, bit for bit, but for the last rounding of the scores.
"""

from __future__ import annotations

import numpy as np

from kernels.cpu.compiling import helper
from kernels.cpu.numba_helpers import narrow, widen
from kernels.key_codes.octets import ask_for_octets, best_products, score_octet
from kernels.key_codes.reference import HIGHEST_CODE, HIGHEST_QUERY, LEAST_SCALE, OCTET

_CODE, _QUERY, _LEAST = np.float32(HIGHEST_CODE), np.float32(HIGHEST_QUERY), np.float32(LEAST_SCALE)
_BEST = best_products()


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
            place = OCTET * block + channel
            first = np.rint((widen(keys[line, place]) - low) / scale)
            second = np.rint((widen(keys[line, place + 4]) - low) / scale)
            first = min(max(first, np.float32(0.0)), _CODE)
            second = min(max(second, np.float32(0.0)), _CODE)
            byte = np.uint8(first) | np.uint8(np.uint8(second) << np.uint8(4))
            codes[octet, 32 * block + 4 * token + channel] = byte


@helper
def spread_query(query, whole, about):
    """One query in whole numbers, each four channels repeated for eight tokens.

    Args:
        query: [D] float32.
        whole: [8 D] int8, overwritten.
        about: [2] float32, overwritten: what 1 stands for, and the sum of the whole numbers.
    """
    largest = np.float32(0.0)
    for d in range(query.shape[0]):
        largest = max(largest, abs(query[d]))
    unit = max(largest / _QUERY, _LEAST)
    total = np.float32(0.0)
    for four in range(query.shape[0] // 4):
        for channel in range(4):
            number = np.rint(query[4 * four + channel] / unit)
            number = min(max(number, -_QUERY), _QUERY)
            total += number
            for token in range(OCTET):
                whole[32 * four + 4 * token + channel] = np.int8(number)
    about[0], about[1] = unit, total


@helper
def score_octets(codes, scales, stretch, queries, about, scores):
    """Estimated scores of consecutive octets' tokens.

    Args:
        codes, scales: as ``encode_key`` writes them.
        stretch: row of the first octet, and how many there are.
        queries, about: [V, 8 D] and [V, 2], of ``spread_query``.
        scores: [V, 8 n] float32, overwritten.
    """
    line, count = stretch
    for octet in range(line, line + count):
        ask_for_octets(codes, octet)
        ask_for_octets(scales, octet)
        column = OCTET * (octet - line)
        score_octet(codes, scales, octet, queries, about, scores, column, _BEST)
