"""Checks an integer product's arguments, and launches its Triton kernels.

``torch.ops.sol.integer_linear`` is the custom operation that ``torch.compile`` and export see.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.gated_mlp.triton_dispatch import count_splits, list_used_channels
from kernels.gpu.row_operations import MAX_WIDTH
from kernels.gpu.triton_support import (
    UnsupportedByKernel,
    check_operands,
    launch,
    row_block,
    runs_triton,
    supported,
)
from kernels.integer_linear.reference import IntegerMatrix

_COLUMNS = 64
_CHANNELS = 64  # at a time
_SCALED_AT_ONCE = 1024


def check_integer_linear(activations: Tensor, bit_widths: Tensor, matrix: IntegerMatrix) -> None:
    """Raise what the kernels refuse.

    Raises: UnsupportedByKernel for sizes, dtypes and layouts that only the reference
        takes; KernelInputError for shapes, dtypes and devices that are wrong. Both name the
        argument.
    """
    fits = activations.dim() == 2 and activations.dtype == torch.float32
    if not fits or activations.shape[1] > MAX_WIDTH:
        raise UnsupportedByKernel(
            f"activations must be [R, C] float32 with C of at most {MAX_WIDTH}, "
            f"got {list(activations.shape)} {activations.dtype}"
        )
    rows, channels = activations.shape
    numbers = matrix.numbers
    width = numbers.shape[-1]
    check_operands(
        {
            "numbers": (numbers, (channels, width), torch.int8),
            "scales": (matrix.scales, (width,), torch.float32),
            "bit_widths": (bit_widths, (rows,), torch.int64),
        },
        activations,
    )


def triton_fits(activations: Tensor, bit_widths: Tensor, matrix: IntegerMatrix) -> bool:
    """Return whether the kernels run here and take these; what only the reference takes is logged.

    Raises: KernelInputError for arguments that are wrong for both.
    """
    return runs_triton(activations) and supported(
        "integer_linear", lambda: check_integer_linear(activations, bit_widths, matrix)
    )


@torch.library.custom_op("sol::integer_linear", mutates_args=())
def multiply_integers(
    activations: Tensor, bit_widths: Tensor, numbers: Tensor, scales: Tensor
) -> Tensor:
    """``reference.integer_linear``; the last two are the fields of IntegerMatrix."""
    from kernels.integer_linear import triton_kernel as kernels

    check_integer_linear(activations, bit_widths, IntegerMatrix(numbers, scales))
    rows, channels = activations.shape
    width = numbers.shape[1]
    whole, row_scales = _quantised(activations.contiguous(), bit_widths)
    block_m = 16 if rows <= 16 else 64
    used, counts = list_used_channels(whole, block_m)
    tiles, parts = -(-rows // block_m), -(-width // _COLUMNS)
    splits = count_splits(tiles * parts, channels)
    partial = activations.new_empty((splits, rows, width), dtype=torch.int32)
    launch(
        kernels.integer_product_rows,
        (tiles, parts, splits),
        {"numbers": whole, "channels": used, "counts": counts, "weight": numbers,
         "partial": partial, "num_rows": rows, "num_channels": channels, "width": width},
        {"BLOCK_M": block_m, "BLOCK_N": _COLUMNS, "BLOCK_K": _CHANNELS},
        {"num_warps": 4 if block_m == 16 else 8, "num_stages": 3},
    )  # fmt: skip
    output = activations.new_empty((rows, width), dtype=torch.float32)
    launch(
        kernels.scale_sums_rows,
        (rows, -(-width // _SCALED_AT_ONCE)),
        {"partial": partial, "row_scales": row_scales, "column_scales": scales,
         "output": output, "num_rows": rows, "width": width, "splits": splits},
        {"BLOCK": _SCALED_AT_ONCE},
        {"num_warps": 4, "num_stages": 1},
    )  # fmt: skip
    return output


@multiply_integers.register_fake
def _product_shape(
    activations: Tensor, bit_widths: Tensor, numbers: Tensor, scales: Tensor
) -> Tensor:
    return activations.new_empty((activations.shape[0], numbers.shape[1]), dtype=torch.float32)


def _quantised(activations: Tensor, bit_widths: Tensor) -> tuple[Tensor, Tensor]:
    """As ``reference.quantise_tokens``."""
    from kernels.integer_linear.triton_kernel import quantise_tokens_rows

    rows, channels = activations.shape
    numbers = activations.new_empty(activations.shape, dtype=torch.int8)
    scales = activations.new_empty(rows, dtype=torch.float32)
    block, options = row_block(channels)
    launch(
        quantise_tokens_rows,
        (rows,),
        {"activations": activations, "bit_widths": bit_widths, "numbers": numbers,
         "scales": scales, "num_channels": channels},
        {"BLOCK": block},
        options,
    )  # fmt: skip
    return numbers, scales
