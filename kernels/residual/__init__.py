"""The residual stream from one half of a layer to the next: add what one adds, normalise for the
other."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from kernels.cpu import as_array
from kernels.cpu.threads import MANY_ROWS, cpu_kernel, torch_with_numba
from kernels.gpu import triton_support as gpu
from kernels.residual import reference
from kernels.residual.reference import Residual

__all__ = ["Residual", "add_and_norm", "rms_norm"]

MAX_AT_ONCE = 2048  # channels of a row among which one program chooses
_RANKED_AT_ONCE = 1024  # of a wider one, that each of its programs counts
_WARPS = {1024: 4, 4096: 8, 8192: 16, 16384: 32}  # of a program with so many channels


class Dropping(NamedTuple):
    """Channels and digits that a row leaves out as it enters a product."""

    kept: Tensor | None = None  # [R] int64 channels; None: all
    bits: Tensor | None = None  # [R] int64; None quantises nothing
    quant_block: int = -1  # channels that share a scale, 0: all; −1 where nothing is quantised
    norms: Tensor | None = None  # [C] fp32 that weigh them; None: the row's norm does, if any


NOTHING = Dropping()


def rms_norm(hidden: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """``reference.rms_norm``; many fp32 rows [R, C] on a CPU go to Numba."""
    are_rows = hidden.dim() == 2 and hidden.dtype == weight.dtype == torch.float32
    fits = are_rows and hidden.shape[0] >= MANY_ROWS and hidden.device.type == "cpu"
    kernel = cpu_kernel(f"{__name__}.cpu", "rms_norm_rows") if fits else None
    if kernel is None:
        return reference.rms_norm(hidden, weight, epsilon)
    normed = torch.empty_like(hidden, memory_format=torch.contiguous_format)
    kernel(hidden.contiguous().numpy(), weight.contiguous().numpy(), epsilon, normed.numpy())
    return normed


def add_and_norm(residual: Residual, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """``reference.add_and_norm``; a decode step's rows in one kernel on CUDA, a prefill's
    [R, T, C] for bf16 products on a CPU. A prefill never needs Triton."""
    hidden, update, norm, epsilon = residual
    if hidden.dim() == 2:
        made = gpu.by_kernels("add_and_norm", hidden, enter_with_triton, residual, dtype)
        return reference.add_and_norm(residual, dtype, rms_norm) if made is None else made
    known = update is None or update.dtype in (torch.float32, torch.bfloat16)
    on_cpu = hidden.device.type == "cpu" and norm is not None
    fits = known and on_cpu and dtype == torch.bfloat16
    kernel = cpu_kernel(f"{__name__}.cpu", "enter_rows") if fits else None
    if kernel is None or norm is None:
        return reference.add_and_norm(residual, dtype, rms_norm)
    normed, width = torch.empty(hidden.shape, dtype=torch.bfloat16), hidden.shape[-1]
    stream = hidden if update is None else torch.empty_like(hidden)
    parts = hidden, hidden[:0] if update is None else update, stream, normed
    rows = [as_array(part.contiguous().view(-1, width)) for part in parts]
    with torch_with_numba():
        kernel(*rows, norm.numpy(), epsilon)
    return stream, normed


def check_residual(residual: Residual) -> None:
    """Raise UnsupportedByKernel or KernelInputError, naming the argument, for what is refused."""
    hidden, update, norm, _ = residual
    gpu.check_rows(hidden, gpu.MAX_WIDTH, (torch.float32,))
    shape, dtype = tuple(hidden.shape), torch.float32 if update is None else update.dtype
    added = {"norm": (norm, shape[1:], torch.float32), "update": (update, shape, dtype)}
    gpu.check_operands({"hidden": (hidden, shape, torch.float32), **added}, hidden)
    gpu.require(dtype in gpu.KERNEL_DTYPES, "update must be fp32, bf16 or fp16", dtype)


def row_arguments(
    residual: Residual, dtype: torch.dtype, dropping: Dropping, lines: int
) -> dict[str, Any]:
    """The first arguments of ``prepare_rows`` in order, with memory for what it writes: so many
    lines of prepared rows [lines, C] of a dtype and, where channels are dropped, lists of them."""
    rows, update, norm, epsilon = residual
    kept, bits, _, norms = dropping
    weights, unused = norm if norms is None else norms, rows.new_empty(1, dtype=torch.int64)
    channels = rows.new_empty((lines * (kept is not None), rows.shape[1]), dtype=torch.int32)
    return {
        "rows": rows, "update": rows if update is None else update,
        "norm": rows if weights is None else weights,
        "kept": unused if kept is None else kept,
        "bit_widths": unused if bits is None else bits,
        "stream": rows if update is None else torch.empty_like(rows),
        "prepared": rows.new_empty((lines, rows.shape[1]), dtype=dtype), "channels": channels,
        "width": rows.shape[1], "epsilon": epsilon, "adding": int(update is not None),
        "weighted": int(weights is not None), "norming": int(norm is not None),
        "quantising": int(bits is not None), "counts": channels.new_empty(lines),
    }  # fmt: skip


def prepare_with_triton(
    residual: Residual, dtype: torch.dtype, dropping: Dropping = NOTHING, *, lists: bool = False
) -> dict[str, Any]:
    """Prepare rows, and on request list the channels of each; returns ``row_arguments``."""
    from kernels.residual.triton_kernel import BINS, prepare_rows, rank_rows

    rows, width = residual.hidden.shape
    given = row_arguments(residual, dtype, dropping, rows)
    pruned = dropping.kept is not None
    ranked = pruned and width > MAX_AT_ONCE
    keys = given["channels"].new_empty((rows * ranked, width))
    ranking = {"keys": keys, "thresholds": keys.new_empty((rows, 2))}
    if ranked:
        zeros = gpu.counters(keys, rows * (BINS.value + 1))
        names = "rows", "update", "norm", "kept", "width", "adding", "weighted"
        shared = {name: given[name] for name in names} | ranking
        counting = {"counts": zeros, "counters": zeros[rows * BINS.value :]}
        grid = rows, -(-width // _RANKED_AT_ONCE)
        gpu.launch(rank_rows, grid, shared | counting, {"BLOCK": _RANKED_AT_ONCE})
    block = next(size for size in _WARPS if size >= width)
    constants = {"BLOCK": block, "PRUNED": pruned, "RANKED": ranked, "LISTED": lists,
                 "QUANT_BLOCK": dropping.quant_block}  # fmt: skip
    gpu.launch(prepare_rows, (rows,), given | ranking, constants, _WARPS[block])
    return given


def enter_with_triton(residual: Residual, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """``reference.add_and_norm``. Raises: as ``check_residual``."""
    check_residual(residual)
    given = prepare_with_triton(residual, dtype)
    return given["stream"], given["prepared"]
