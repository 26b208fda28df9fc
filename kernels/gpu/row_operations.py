"""Launches of kernels with one Triton program a row: [R, C] in, [R, C] out.

Quantisation, pruning and norm are such operations; each checks its own arguments in its
``triton_dispatch.py``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kernels.gpu.triton_support import (
    KERNEL_DTYPES,
    UnsupportedByKernel,
    launch,
    row_block,
    runs_triton,
    supported,
)

MAX_WIDTH = 16384


def fits_rows(
    operation: str,
    rows: Tensor,
    widest: int = MAX_WIDTH,
    dtypes: tuple[torch.dtype, ...] = KERNEL_DTYPES,
) -> bool:
    """Return whether Triton runs here and takes these rows; what only torch takes is logged."""
    return runs_triton(rows) and supported(operation, lambda: check_rows(rows, widest, dtypes))


def run_rows(
    kernel: Any,
    rows: Tensor,
    name: str,
    tensors: dict[str, Tensor],
    numbers: dict[str, float] | None = None,
) -> Tensor:
    """Launch ``kernel`` on ``rows``, its argument ``name``, beside further arguments."""
    rows = rows.contiguous()
    output = torch.empty_like(rows)
    block, options = row_block(rows.shape[1])
    arguments = {name: rows, **tensors, "output": output, "num_channels": rows.shape[1]}
    launch(kernel, (rows.shape[0],), {**arguments, **(numbers or {})}, {"BLOCK": block}, options)
    return output


def check_rows(
    rows: Tensor, widest: int = MAX_WIDTH, dtypes: tuple[torch.dtype, ...] = KERNEL_DTYPES
) -> None:
    """Raises: UnsupportedByKernel for rows that only torch takes."""
    if rows.dim() != 2 or rows.dtype not in dtypes or rows.shape[1] > widest:
        names = " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        raise UnsupportedByKernel(
            f"rows must be [R, C] {names} with C of at most {widest}, "
            f"got {list(rows.shape)} {rows.dtype}"
        )
