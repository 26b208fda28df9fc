"""The residual stream between two halves of a layer, of many rows on the CPU; in Numba."""

import numba
import numpy as np

from kernels.cpu.compiling import team_kernel
from kernels.cpu.numba_helpers import widen
from kernels.cpu.numba_rows import norm_row


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
