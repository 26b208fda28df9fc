"""Root-mean-square norm on Triton."""

from __future__ import annotations

from torch import Tensor

from kernels.gpu.row_operations import run_rows
from kernels.gpu.triton_support import KernelInputError, check_beside


def normalise_rows(hidden: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """As ``reference.rms_norm`` of [R, C] fp32 that ``fits_rows``."""
    from kernels.rms_norm.triton_kernel import rms_norm_rows

    check_beside("weight", weight, hidden)
    if weight.shape != hidden.shape[1:] or not weight.is_contiguous():
        raise KernelInputError(
            f"weight must be contiguous [{hidden.shape[1]}], got {list(weight.shape)}"
        )
    return run_rows(rms_norm_rows, hidden, "hidden", {"weight": weight}, {"epsilon": epsilon})
