"""The residual stream from one half of a layer to the next: add what one adds, normalise for the
other."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.cpu import as_array, on_cpu
from kernels.cpu.threads import cpu_kernel, torch_with_numba
from kernels.gpu.triton_support import (
    KERNEL_DTYPES,
    MAX_WIDTH,
    KernelInputError,
    UnsupportedByKernel,
    by_kernels,
    check_operands,
    check_rows,
    launch,
    row_block,
)
from kernels.residual import reference
from kernels.residual.reference import Residual
from kernels.rms_norm import rms_norm

__all__ = ["Residual", "add_and_norm"]


def add_and_norm(residual: Residual, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """``reference.add_and_norm``; a decode step's rows in one kernel on CUDA, a prefill's
    [R, T, C] on a CPU. A prefill never needs Triton."""
    rows, made = residual.hidden, None
    if rows.dim() == 2:
        made = by_kernels("add_and_norm", rows, enter_with_triton, residual, dtype)
    elif on_cpu(rows):
        made = _enter_on_cpu(residual, dtype)
    return reference.add_and_norm(residual, dtype, rms_norm) if made is None else made


def _enter_on_cpu(residual: Residual, dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
    """``add_and_norm`` by the CPU kernel; None of what it does not know."""
    hidden, update, norm, epsilon = residual
    normed, width = torch.empty(hidden.shape, dtype=dtype), hidden.shape[-1]
    fits = norm is not None and on_cpu(normed) and (update is None or on_cpu(update))
    kernel = cpu_kernel(f"{__name__}.cpu", "enter_rows") if fits else None
    if kernel is None or norm is None:
        return None
    stream = hidden if update is None else torch.empty_like(hidden)
    parts = hidden, hidden[:0] if update is None else update, stream, normed
    rows = [as_array(part.contiguous().view(-1, width)) for part in parts]
    with torch_with_numba():
        kernel(*rows, norm.numpy(), epsilon)
    return stream, normed


def check_residual(residual: Residual) -> None:
    """Raise UnsupportedByKernel or KernelInputError, naming the argument, for what is refused."""
    hidden, update = residual.hidden, residual.update
    check_rows(hidden, MAX_WIDTH, (torch.float32,))
    wanted = {"norm": (residual.norm, tuple(hidden.shape[1:]), torch.float32)}
    if update is not None:
        wanted["update"] = (update, tuple(hidden.shape), update.dtype)
    check_operands({"hidden": (hidden, tuple(hidden.shape), torch.float32), **wanted}, hidden)
    if update is not None and update.dtype not in KERNEL_DTYPES:
        raise UnsupportedByKernel(f"update must be fp32, bf16 or fp16, got {update.dtype}")


def enter_with_triton(
    residual: Residual,
    dtype: torch.dtype,
    channels_kept: Tensor | None = None,
    bit_widths: Tensor | None = None,
    lists: tuple[Tensor, Tensor] | None = None,
    quant_block: int = 0,
) -> tuple[Tensor, Tensor]:
    """``reference.add_and_norm``; also pruned and quantised.

    Args:
        channels_kept: [R] int64; None prunes nothing.
        bit_widths: [R] int64 of pruned rows; None quantises nothing.
        lists: [1, C] int32 and [1] int32, written: the channels of a single row that are not 0,
            and how many.
        quant_block: channels that share a scale; 0: all.
    Raises: as ``check_residual``.
    """
    from kernels.residual.triton_kernel import enter_rows

    check_residual(residual)
    hidden, update, norm, epsilon = residual
    if lists is not None and hidden.shape[0] != 1:
        raise KernelInputError(f"lists are of a single row, got {hidden.shape[0]}")
    unused = hidden.new_empty(1, dtype=torch.int64)
    stream = hidden if update is None else torch.empty_like(hidden)
    normed = torch.empty_like(hidden, dtype=dtype)
    block, options = row_block(hidden.shape[1])
    channels, counts = lists or (unused.view(torch.int32), unused.view(torch.int32))
    launch(
        enter_rows,
        (hidden.shape[0],),
        {"hidden": hidden, "update": hidden if update is None else update,
         "norm": hidden if norm is None else norm,
         "channels_kept": unused if channels_kept is None else channels_kept,
         "bit_widths": unused if bit_widths is None else bit_widths,
         "stream": stream, "normed": normed, "channels": channels, "counts": counts,
         "num_channels": hidden.shape[1], "epsilon": epsilon, "adding": int(update is not None),
         "norming": int(norm is not None), "quantising": int(bit_widths is not None)},
        {"BLOCK": block, "PRUNED": channels_kept is not None, "LISTED": lists is not None,
         "QUANT_BLOCK": quant_block},
        options,
    )  # fmt: skip
    return stream, normed
