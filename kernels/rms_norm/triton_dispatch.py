"""Root-mean-square norm on Triton."""

from __future__ import annotations

from torch import Tensor

from kernels.gpu.row_operations import run_rows
from kernels.gpu.triton_support import KernelInputError, check_beside


def normalise_rows(hidden: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """As ``reference.rms_norm`` of [..., C] fp32 that ``fits_rows``."""
    from kernels.rms_norm.triton_kernel import rms_norm_rows

    rows = hidden.reshape(-1, hidden.shape[-1])
    check_beside("weight", weight, hidden)
    if weight.shape != rows.shape[1:] or not weight.is_contiguous():
        raise KernelInputError(
            f"weight must be contiguous [{rows.shape[1]}], got {list(weight.shape)}"
        )
    more = {"weight": weight}
    return run_rows(rms_norm_rows, rows, "hidden", more, {"epsilon": epsilon}).view(hidden.shape)
