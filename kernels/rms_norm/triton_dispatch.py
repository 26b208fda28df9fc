"""Root-mean-square norm on Triton, as a custom operation of torch."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.gpu.row_operations import check_rows, run_rows
from kernels.gpu.triton_support import KernelInputError, UnsupportedByKernel, check_beside


@torch.library.custom_op("sol::rms_norm", mutates_args=())
def normalise_rows(hidden: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """As ``reference.rms_norm`` of [..., C] fp32."""
    from kernels.rms_norm.triton_kernel import rms_norm_rows

    rows = hidden.reshape(-1, hidden.shape[-1])
    check_rows(rows)
    if rows.dtype != torch.float32 or weight.dtype != torch.float32:
        raise UnsupportedByKernel(
            f"hidden and weight must be float32, got {hidden.dtype} and {weight.dtype}"
        )
    check_beside("weight", weight, hidden)
    if weight.shape != rows.shape[1:] or not weight.is_contiguous():
        raise KernelInputError(
            f"weight must be contiguous [{rows.shape[1]}], got {list(weight.shape)}"
        )
    more = {"weight": weight}
    return run_rows(rms_norm_rows, rows, "hidden", more, {"epsilon": epsilon}).view(hidden.shape)


@normalise_rows.register_fake
def _normalise_shape(hidden: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    return hidden.new_empty(hidden.shape)
