"""bf16 matrix times a few fp32 rows on the CPU, in Numba: limited by memory alone.

One decode step reads every weight once; torch's bf16 product for one row reads
12–16 GB/s on two cores of a machine that can read 38. This loop widens 16 weights at
a time in registers and reaches 29–38 (``docs/decisions.md``).
"""

import numba
import numpy as np

from kernels.cpu.compiling import FAST_SUMS, team_kernel


@team_kernel("void(float32[:, ::1], uint16[:, ::1], float32[:, ::1])", fastmath=FAST_SUMS)
def bf16_rows_product(inputs, weight, outputs):
    """outputs[r, o] = Σ_i inputs[r, i] · weight[o, i], accumulated in fp32.

    Args:
        inputs: [R, in] fp32.
        weight: [out, in] bfloat16 bit patterns.
        outputs: [R, out] fp32, overwritten.
    """
    num_rows = inputs.shape[0]
    for out in numba.prange(weight.shape[0]):
        for row in range(num_rows):
            total = np.float32(0.0)
            for channel in range(weight.shape[1]):
                bits = np.uint32(weight[out, channel]) << np.uint32(16)
                total += inputs[row, channel] * np.uint32(bits).view(np.float32)
            outputs[row, out] = total
