"""Magnitude pruning on the CPU, in Numba: finds the k-th magnitude without sorting."""

import numba

from kernels.cpu.compiling import team_kernel
from kernels.cpu.numba_helpers import keep_heaviest_row, keep_largest_row


@team_kernel("void(float32[:, ::1], int64[::1], float32[:, ::1])")
def keep_largest_rows(hidden, channels_kept, kept):
    """``keep_largest_channels`` into ``kept`` [R, C]; NaN counts as largest."""
    for row in numba.prange(hidden.shape[0]):
        keep_largest_row(hidden[row], channels_kept[row], kept[row])


@team_kernel
def keep_heaviest_rows(inner, norms, channels_kept, kept):
    """``keep_heaviest_channels`` into ``kept`` [R, I]; float32, or bfloat16 as uint16 patterns."""
    for row in numba.prange(inner.shape[0]):
        keep_heaviest_row(inner[row], norms, channels_kept[row], kept[row])
