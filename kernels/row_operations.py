"""Small operations with one Triton program a row, as custom operations of torch.

Quantisation, pruning and norm work alike: [R, C] in, [R, C] out. Their public functions
are in the packages of their names, which choose between these, Numba and the reference.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kernels.triton_support import (
    KERNEL_DTYPES,
    KernelInputError,
    UnsupportedByKernel,
    check_beside,
    launch,
    row_block,
    runs_triton,
    supported,
)

__all__ = [
    "MAX_PRUNED",
    "fits_pruning",
    "fits_rows",
    "normalise_rows",
    "prune_rows",
    "quantise_rows",
]

MAX_WIDTH = 16384
MAX_PRUNED = 8192  # ranking takes more registers
_FP32 = (torch.float32,)


def fits_rows(operation: str, rows: Tensor) -> bool:
    """Whether Triton runs here and takes these rows; what only torch takes is logged."""
    return runs_triton(rows) and supported(operation, lambda: _check_rows(rows))


def fits_pruning(hidden: Tensor) -> bool:
    """As ``fits_rows``, for ``prune_rows``: fp32, which is what a decode step prunes."""
    return runs_triton(hidden) and supported(
        "keep_largest_channels", lambda: _check_rows(hidden, MAX_PRUNED, _FP32)
    )


@torch.library.custom_op("sol::fake_quantise", mutates_args=())
def quantise_rows(activations: Tensor, bit_widths: Tensor) -> Tensor:
    """As ``activation_quantisation.reference.fake_quantise``."""
    from kernels.activation_quantisation.triton_kernel import fake_quantise_rows

    _check_rows(activations)
    _check_counts("bit_widths", bit_widths, activations)
    return _run(fake_quantise_rows, activations, "activations", {"bit_widths": bit_widths})


@torch.library.custom_op("sol::keep_largest_channels", mutates_args=())
def prune_rows(hidden: Tensor, channels_kept: Tensor) -> Tensor:
    """As ``channel_pruning.reference.keep_largest_channels``."""
    from kernels.channel_pruning.triton_kernel import keep_largest_rows

    _check_rows(hidden, MAX_PRUNED, _FP32)
    _check_counts("channels_kept", channels_kept, hidden)
    return _run(keep_largest_rows, hidden, "hidden", {"channels_kept": channels_kept})


@torch.library.custom_op("sol::rms_norm", mutates_args=())
def normalise_rows(hidden: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """As ``rms_norm.reference.rms_norm`` of [..., C] fp32."""
    from kernels.rms_norm.triton_kernel import rms_norm_rows

    rows = hidden.reshape(-1, hidden.shape[-1])
    _check_rows(rows)
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
    return _run(rms_norm_rows, rows, "hidden", more, {"epsilon": epsilon}).view(hidden.shape)


@quantise_rows.register_fake
def _quantise_shape(activations: Tensor, bit_widths: Tensor) -> Tensor:
    return activations.new_empty(activations.shape)


@prune_rows.register_fake
def _prune_shape(hidden: Tensor, channels_kept: Tensor) -> Tensor:
    return hidden.new_empty(hidden.shape)


@normalise_rows.register_fake
def _normalise_shape(hidden: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    return hidden.new_empty(hidden.shape)


def _run(
    kernel: Any,
    rows: Tensor,
    name: str,
    tensors: dict[str, Tensor],
    numbers: dict[str, float] | None = None,
) -> Tensor:
    rows = rows.contiguous()
    output = torch.empty_like(rows)
    block, options = row_block(rows.shape[1])
    arguments = {name: rows, **tensors, "output": output, "num_channels": rows.shape[1]}
    launch(kernel, (rows.shape[0],), {**arguments, **(numbers or {})}, {"BLOCK": block}, options)
    return output


def _check_rows(
    rows: Tensor, widest: int = MAX_WIDTH, dtypes: tuple[torch.dtype, ...] = KERNEL_DTYPES
) -> None:
    if rows.dim() != 2 or rows.dtype not in dtypes or rows.shape[1] > widest:
        names = " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        raise UnsupportedByKernel(
            f"rows must be [R, C] {names} with C of at most {widest}, "
            f"got {list(rows.shape)} {rows.dtype}"
        )


def _check_counts(name: str, counts: Tensor, rows: Tensor) -> None:
    check_beside(name, counts, rows)
    if counts.shape != rows.shape[:1] or counts.dtype != torch.int64 or not counts.is_contiguous():
        raise KernelInputError(
            f"{name} must be contiguous [{rows.shape[0]}] int64, "
            f"got {list(counts.shape)} {counts.dtype}"
        )
