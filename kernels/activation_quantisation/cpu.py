"""Fake quantisation on the CPU, in Numba: one pass for a scale, one for the rounding."""

import numba
import numpy as np

from kernels.cpu.compiling import team_kernel
from kernels.cpu.numba_helpers import count_scales, quantise_blocks


@team_kernel("void(float32[:, ::1], int64[::1], int64, float32[:, ::1])")
def fake_quantise_rows(activations, bit_widths, block, rounded):
    """``fake_quantise`` into ``rounded`` [R, C], the reference's operations in its order."""
    for row in numba.prange(activations.shape[0]):
        steps = np.empty(count_scales(activations.shape[1], block), np.float32)
        quantise_blocks(activations[row], bit_widths[row], block, rounded[row], steps)
