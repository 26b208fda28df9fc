"""Fake quantisation on the CPU, in Numba: one pass for the scale, one for the rounding."""

from __future__ import annotations

import numba

from kernels.cpu.compiling import team_kernel
from kernels.cpu.numba_rows import quantise_row


@team_kernel("void(float32[:, ::1], int64[::1], float32[:, ::1])")
def fake_quantise_rows(activations, bit_widths, rounded):
    """``fake_quantise`` into ``rounded`` [R, C], the reference's operations in its order."""
    for row in numba.prange(activations.shape[0]):
        quantise_row(activations[row], bit_widths[row], rounded[row])
