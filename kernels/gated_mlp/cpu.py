"""The activation of many rows on the CPU, in Numba."""

import numba

from kernels.cpu.compiling import team_kernel
from kernels.cpu.numba_helpers import activate_row


@team_kernel
def activate_rows(gate_up, inner, gelu):
    """``activated`` of [R, 2·I] into [R, I], bfloat16 as uint16 bit patterns, rounded once."""
    width = inner.shape[1]
    for row in numba.prange(inner.shape[0]):
        activate_row(gate_up[row, :width], gate_up[row, width:], gelu, inner[row])
