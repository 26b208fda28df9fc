"""The residual stream from one half of a layer to the next: add what one adds, normalise for the
other."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.residual import reference
from kernels.residual.reference import Residual
from kernels.residual.triton_dispatch import enter_with_triton, triton_fits
from kernels.rms_norm import rms_norm

__all__ = ["Residual", "add_and_norm"]


def add_and_norm(residual: Residual, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """As ``reference.add_and_norm``; in one kernel on CUDA."""
    if triton_fits(residual):
        return enter_with_triton(residual, dtype)
    return reference.add_and_norm(residual, dtype, rms_norm)
