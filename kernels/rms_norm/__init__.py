"""Root-mean-square norm."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.cpu.threads import MANY_ROWS, cpu_kernel, torch_with_numba
from kernels.rms_norm import reference

__all__ = ["rms_norm"]


def rms_norm(hidden: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """``reference.rms_norm``; on a CPU fp32 heads of a prefill [R, T, N, D] and many rows [R, C]
    go to Numba."""
    many = hidden.dim() == 4 or (hidden.dim() == 2 and hidden.shape[0] >= MANY_ROWS)
    fits = many and hidden.device.type == "cpu" and hidden.dtype == weight.dtype == torch.float32
    kernel = cpu_kernel(f"{__name__}.cpu", "rms_norm_rows") if fits else None
    if kernel is None:
        return reference.rms_norm(hidden, weight, epsilon)
    rows = hidden.contiguous().flatten(0, -2)
    normed = torch.empty_like(rows)
    with torch_with_numba():
        kernel(rows.numpy(), weight.contiguous().numpy(), epsilon, normed.numpy())
    return normed.view(hidden.shape)
