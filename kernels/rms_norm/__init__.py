"""Root-mean-square norm."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.cpu.threads import MANY_ROWS, cpu_kernel
from kernels.rms_norm import reference


def rms_norm(hidden: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """``reference.rms_norm``; many fp32 rows [R, C] on a CPU go to Numba."""
    are_rows = hidden.dim() == 2 and hidden.dtype == weight.dtype == torch.float32
    fits = are_rows and hidden.shape[0] >= MANY_ROWS and hidden.device.type == "cpu"
    kernel = cpu_kernel(f"{__name__}.cpu", "rms_norm_rows") if fits else None
    if kernel is None:
        return reference.rms_norm(hidden, weight, epsilon)
    normed = torch.empty_like(hidden, memory_format=torch.contiguous_format)
    kernel(hidden.contiguous().numpy(), weight.contiguous().numpy(), epsilon, normed.numpy())
    return normed
