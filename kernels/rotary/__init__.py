"""Rotary position embedding."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.cpu.threads import MANY_ROWS, cpu_kernel
from kernels.rotary import reference

__all__ = ["rotate_first_heads"]


def rotate_first_heads(heads: Tensor, count: int, cosine: Tensor, sine: Tensor) -> Tensor:
    """``reference.rotate`` of the first heads of each token; many rows on a CPU go to Numba.

    Args:
        heads: [R, N, D] or [R, T, N, D], fp32.
        count: how many of the N heads.
        cosine, sine: [R, D] or [T, D] fp32.
    Returns: [..., count, D].
    """
    fits = (
        heads.dim() == 3
        and heads.shape[0] >= MANY_ROWS
        and heads.device.type == "cpu"
        and heads.dtype == torch.float32
        and cosine.shape[0] == heads.shape[0]
    )
    kernel = cpu_kernel(f"{__name__}.cpu", "rotate_rows") if fits else None
    if kernel is None:
        return reference.rotate(heads[..., :count, :], cosine[:, None], sine[:, None])
    rotated = torch.empty(heads.shape[0], count, heads.shape[2])
    angles = (cosine.contiguous().numpy(), sine.contiguous().numpy())
    kernel(heads.contiguous().numpy(), *angles, rotated.numpy())
    return rotated
