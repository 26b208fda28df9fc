"""RMS norm on the CPU, in Numba: one pass to sum, one to scale, instead of torch's seven."""

import numba

from kernels.cpu.compiling import FAST_SUMS, team_kernel
from kernels.cpu.numba_rows import norm_row


@team_kernel("void(float32[:, ::1], float32[::1], float32, float32[:, ::1])", fastmath=FAST_SUMS)
def rms_norm_rows(hidden, weight, epsilon, normed):
    """``rms_norm`` of [R, C] into ``normed``; the sum of squares is fp32."""
    for row in numba.prange(hidden.shape[0]):
        norm_row(hidden[row], weight, epsilon, normed[row])
