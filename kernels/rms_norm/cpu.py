"""RMS norm on the CPU, in Numba: one pass to sum, one to scale, instead of torch's seven."""

from __future__ import annotations

import numba
import numpy as np

from kernels.cpu.compiling import FAST_SUMS, team_kernel


@team_kernel("void(float32[:, ::1], float32[::1], float32, float32[:, ::1])", fastmath=FAST_SUMS)
def rms_norm_rows(hidden, weight, epsilon, normed):
    """``rms_norm`` of [R, C] into ``normed``; the sum of squares is fp32."""
    num_channels = hidden.shape[1]
    for row in numba.prange(hidden.shape[0]):
        total = np.float32(0.0)
        for channel in range(num_channels):
            total += hidden[row, channel] * hidden[row, channel]
        scale = np.float32(1.0) / np.sqrt(total / np.float32(num_channels) + epsilon)
        for channel in range(num_channels):
            normed[row, channel] = hidden[row, channel] * scale * weight[channel]
