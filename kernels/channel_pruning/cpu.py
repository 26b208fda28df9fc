"""Magnitude pruning on the CPU, in Numba: finds the k-th magnitude without sorting."""

from __future__ import annotations

import numba

from kernels.cpu.numba_rows import keep_largest_row


@numba.njit(
    "void(float32[:, ::1], int64[::1], float32[:, ::1])", parallel=True, nogil=True, cache=True
)
def keep_largest_rows(hidden, channels_kept, kept):
    """``keep_largest_channels`` into ``kept`` [R, C]; NaN counts as largest."""
    for row in numba.prange(hidden.shape[0]):
        keep_largest_row(hidden[row], channels_kept[row], kept[row])
