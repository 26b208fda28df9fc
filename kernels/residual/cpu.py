"""The residual stream between two halves of a layer, of many rows on the CPU; in Numba."""

import numba
import numpy as np

from kernels.cpu.compiling import FAST_SUMS, team_kernel
from kernels.cpu.numba_helpers import norm_row, widen


@team_kernel
def enter_rows(hidden, update, stream, normed, norm, epsilon):
    """``add_and_norm`` of every row, in one pass instead of torch's nine.

    Args:
        hidden: [R, C] float32.
        update: [R, C] float32, or bfloat16 as uint16 bit patterns; [0, C] for nothing.
        stream: [R, C] float32, overwritten; ``hidden`` itself where nothing is added.
        normed: [R, C] bfloat16 bit patterns, overwritten.
        norm: [C] float32.
        epsilon: float.
    """
    for row in numba.prange(hidden.shape[0]):
        if update.shape[0] > 0:
            for channel in range(hidden.shape[1]):
                stream[row, channel] = hidden[row, channel] + widen(update[row, channel])
        norm_row(stream[row], norm, np.float32(epsilon), normed[row])


@team_kernel("void(float32[:, ::1], float32[::1], float32, float32[:, ::1])", fastmath=FAST_SUMS)
def rms_norm_rows(hidden, weight, epsilon, normed):
    """``rms_norm`` of [R, C] into ``normed``: one pass to sum, one to scale, instead of torch's
    seven; the sum of squares is fp32."""
    for row in numba.prange(hidden.shape[0]):
        norm_row(hidden[row], weight, epsilon, normed[row])
