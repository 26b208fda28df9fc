"""Rotary position embedding on the CPU, in Numba: one pass over the heads."""

from __future__ import annotations

import numba

from kernels.cpu.compiling import team_kernel


@team_kernel("void(float32[:, :, ::1], float32[:, ::1], float32[:, ::1], float32[:, :, ::1])")
def rotate_rows(heads, cosine, sine, rotated):
    """``rotate`` of the first n heads of [R, N, D] into [R, n, D]; angles are [R, D]."""
    half = heads.shape[2] // 2
    for row in numba.prange(heads.shape[0]):
        for head in range(rotated.shape[1]):
            for d in range(half):
                first, second = heads[row, head, d], heads[row, head, half + d]
                rotated[row, head, d] = first * cosine[row, d] - second * sine[row, d]
                rotated[row, head, half + d] = (
                    second * cosine[row, half + d] + first * sine[row, half + d]
                )
