"""Root-mean-square norm."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.cpu.threads import MANY_ROWS, cpu_kernel
from kernels.gpu.row_operations import fits_rows
from kernels.rms_norm import reference
from kernels.rms_norm.triton_dispatch import normalise_rows

__all__ = ["rms_norm"]


def rms_norm(hidden: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """As ``reference.rms_norm``; the fp32 rows of a decode step [R, C] go to Triton on CUDA and,
    if they are many, to Numba on a CPU. A prefill never needs Triton."""
    are_rows = hidden.dim() == 2 and hidden.dtype == weight.dtype == torch.float32
    if are_rows and fits_rows("rms_norm", hidden):
        return normalise_rows(hidden, weight, epsilon)
    fits = are_rows and hidden.shape[0] >= MANY_ROWS and hidden.device.type == "cpu"
    kernel = cpu_kernel(f"{__name__}.cpu", "rms_norm_rows") if fits else None
    if kernel is None:
        return reference.rms_norm(hidden, weight, epsilon)
    normed = torch.empty_like(hidden, memory_format=torch.contiguous_format)
    kernel(hidden.contiguous().numpy(), weight.contiguous().numpy(), epsilon, normed.numpy())
    return normed
