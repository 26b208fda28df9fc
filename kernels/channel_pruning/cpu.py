"""Magnitude pruning on the CPU, in Numba: finds the k-th magnitude without sorting."""

from __future__ import annotations

import numba
import numpy as np

from kernels.numba_helpers import kth_largest

__all__ = ["keep_largest_rows"]


@numba.njit(
    "void(float32[:, ::1], int64[::1], float32[:, ::1])", parallel=True, nogil=True, cache=True
)
def keep_largest_rows(hidden, channels_kept, kept):
    """``keep_largest_channels`` into ``kept`` [R, C]; NaN counts as largest."""
    num_channels = hidden.shape[1]
    for row in numba.prange(hidden.shape[0]):
        if channels_kept[row] >= num_channels:
            kept[row] = hidden[row]
            continue
        magnitudes = np.empty(num_channels, np.uint32)
        bits = hidden[row].view(np.uint32)
        for channel in range(num_channels):
            # Without the sign bit, the patterns are in the order of the magnitudes.
            magnitudes[channel] = bits[channel] & np.uint32(0x7FFFFFFF)
        threshold, above = kth_largest(magnitudes, channels_kept[row])
        room = channels_kept[row] - above
        for channel in range(num_channels):
            if magnitudes[channel] == threshold:
                room -= 1
                kept[row, channel] = hidden[row, channel] if room >= 0 else np.float32(0.0)
            else:
                above_it = magnitudes[channel] > threshold
                kept[row, channel] = hidden[row, channel] if above_it else np.float32(0.0)
