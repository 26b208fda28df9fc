"""The residual stream from one half of a layer to the next: add what one adds, normalise for the
other."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kernels.cpu import as_array
from kernels.cpu.threads import cpu_kernel, torch_with_numba
from kernels.gpu.triton_support import (
    KERNEL_DTYPES,
    MAX_WIDTH,
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
    [R, T, C] for bf16 products on a CPU. A prefill never needs Triton."""
    rows, made = residual.hidden, None
    if rows.dim() == 2:
        made = by_kernels("add_and_norm", rows, enter_with_triton, residual, dtype)
    elif rows.device.type == "cpu" and dtype == torch.bfloat16:
        made = _enter_on_cpu(residual)
    return reference.add_and_norm(residual, dtype, rms_norm) if made is None else made


def _enter_on_cpu(residual: Residual) -> tuple[Tensor, Tensor] | None:
    """``add_and_norm`` to bf16 by the CPU kernel; None of what it does not know."""
    hidden, update, norm, epsilon = residual
    known = (torch.float32, torch.bfloat16)
    fits = norm is not None and (update is None or update.dtype in known)
    kernel = cpu_kernel(f"{__name__}.cpu", "enter_rows") if fits else None
    if kernel is None or norm is None:
        return None
    normed, width = torch.empty(hidden.shape, dtype=torch.bfloat16), hidden.shape[-1]
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


def entering_arguments(
    residual: Residual,
    dtype: torch.dtype,
    channels_kept: Tensor | None,
    bit_widths: Tensor | None,
    lines: int,
) -> dict[str, Any]:
    """The arguments of ``enter_rows`` in order, with memory for what it writes.

    Args:
        channels_kept: [R] int64; None prunes nothing.
        bit_widths: [R] int64 of pruned rows; None quantises nothing.
        lines: normalised rows, [lines, C] of a dtype.
    Raises: as ``check_residual``.
    """
    check_residual(residual)
    hidden, update, norm, epsilon = residual
    unused = hidden.new_empty(1, dtype=torch.int64)
    return {
        "hidden": hidden, "update": hidden if update is None else update,
        "norm": hidden if norm is None else norm,
        "channels_kept": unused if channels_kept is None else channels_kept,
        "bit_widths": unused if bit_widths is None else bit_widths,
        "stream": hidden if update is None else torch.empty_like(hidden),
        "normed": hidden.new_empty((lines, hidden.shape[1]), dtype=dtype),
        "num_channels": hidden.shape[1], "epsilon": epsilon, "adding": int(update is not None),
        "norming": int(norm is not None), "quantising": int(bit_widths is not None),
    }  # fmt: skip


def enter_with_triton(
    residual: Residual,
    dtype: torch.dtype,
    channels_kept: Tensor | None = None,
    bit_widths: Tensor | None = None,
    quant_block: int = 0,
) -> tuple[Tensor, Tensor]:
    """``reference.add_and_norm``; also pruned and quantised. Raises: as ``check_residual``."""
    from kernels.residual.triton_kernel import enter_rows

    rows = residual.hidden.shape[0]
    given = entering_arguments(residual, dtype, channels_kept, bit_widths, rows)
    block, options = row_block(residual.hidden.shape[1])
    constants = {"BLOCK": block, "PRUNED": channels_kept is not None, "QUANT_BLOCK": quant_block}
    launch(enter_rows, (rows,), given, constants, options)
    return given["stream"], given["normed"]
