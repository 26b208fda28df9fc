"""Fake quantisation on the CPU, in Numba: one pass for the scale, one for the rounding."""

from __future__ import annotations

import numba
import numpy as np

from kernels.activation_quantisation.reference import SCALE_FLOOR, UNTOUCHED_BITS

__all__ = ["fake_quantise_rows"]

_FLOOR = np.float32(SCALE_FLOOR)
_TO_EVEN = np.float32(1.5 * 2**23)  # adding and taking it away rounds |x| < 2^22 half to even


@numba.njit(
    "void(float32[:, ::1], int64[::1], float32[:, ::1])", parallel=True, nogil=True, cache=True
)
def fake_quantise_rows(activations, bit_widths, rounded):
    """``fake_quantise`` into ``rounded`` [R, C], the reference's operations in its order."""
    num_channels = activations.shape[1]
    for row in numba.prange(activations.shape[0]):
        if bit_widths[row] >= UNTOUCHED_BITS:
            rounded[row] = activations[row]
            continue
        bits = activations[row].view(np.uint32)
        largest = np.uint32(0)
        for channel in range(num_channels):
            largest = max(largest, bits[channel] & np.uint32(0x7FFFFFFF))
        peak = np.uint32(largest).view(np.float32)
        scale = peak / np.float32((1 << (bit_widths[row] - 1)) - 1)
        if scale < _FLOOR:
            scale = _FLOOR
        for channel in range(num_channels):
            level = (activations[row, channel] / scale + _TO_EVEN) - _TO_EVEN
            rounded[row, channel] = level * scale
