"""The gated MLP of a decode step, pruned and quantised, as one operation; and its activation."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from kernels.activation_quantisation import quantise_rows
from kernels.cpu import as_array, takes_bf16
from kernels.cpu.threads import cpu_kernel, torch_with_numba
from kernels.gated_mlp import reference
from kernels.gated_mlp.reference import MlpPlan, MlpWeights
from kernels.gpu import triton_support as gpu
from kernels.residual import (
    MAX_AT_ONCE,
    NOTHING,
    Dropping,
    Residual,
    check_residual,
    prepare_with_triton,
    row_arguments,
)

__all__ = ["MlpPlan", "MlpWeights", "activated", "fused_gated_mlp"]

MAX_ROWS = 64  # beyond, the rows' kept channels are together nearly all of them
MAX_WIDTH = 8192  # one program has a row in its registers
MAX_INNER = 16384
MAX_LISTED = 4096  # channels that the program which prepares a row lists in shared memory
# Numbers of gate and up of a small MLP: an H100 reads 16 MB in 5 µs, as long as two launches take.
MAX_DENSE = 2**23
TARGET_PROGRAMS = 264  # about two for each of an H100's 132 cores
CHANNELS_PER_SPLIT = 128
MAX_SPLITS = 16
_COLUMNS = 64
_CHANNELS = 32  # at a time


def fused_gated_mlp(
    residual: Residual, weights: MlpWeights, plan: MlpPlan
) -> tuple[Tensor, Tensor] | None:
    """The stream as it enters the MLP and ``reference.gated_mlp`` of it, in fused kernels; None
    where there are none for this.

    A caller that gets None computes the steps one by one, with the operations that the
    device has. Rows that keep every channel are left to those too, but for a single short one of a
    small MLP: a large dense product is what a vendor's library does best.
    """
    rows = residual.hidden
    alone = rows.dim() == 2 and rows.shape[0] == 1 and rows.shape[1] <= MAX_AT_ONCE
    small = alone and plan.bit_widths is None and weights.gate_up.numel() <= MAX_DENSE
    if plan.channels_kept is None and not small:
        return None
    return gpu.by_kernels("gated_mlp", rows, multiply_with_triton, residual, weights, plan)


def activated(gate_up: Tensor, activation: Literal["silu", "gelu_tanh"]) -> Tensor:
    """``reference.activated``; a decode step's rows in one kernel on CUDA, a prefill's
    [R, T, 2·I] bf16 on a CPU."""
    if gate_up.dim() == 2:
        made = gpu.by_kernels("gated_mlp", gate_up, activate_with_triton, gate_up, activation)
        return reference.activated(gate_up, activation) if made is None else made
    kernel = cpu_kernel(f"{__name__}.cpu", "activate_rows") if takes_bf16(gate_up) else None
    if kernel is None:
        return reference.activated(gate_up, activation)
    inner = gate_up.new_empty(*gate_up.shape[:-1], gate_up.shape[-1] // 2)
    rows = [as_array(part.contiguous().flatten(0, -2)) for part in (gate_up, inner)]
    with torch_with_numba():
        kernel(*rows, activation == "gelu_tanh")
    return inner


def check_mlp(residual: Residual, weights: MlpWeights, plan: MlpPlan) -> None:
    """Raise UnsupportedByKernel or KernelInputError, naming the argument, for what is refused."""
    hidden, gate_up, down = residual.hidden, weights.gate_up, weights.down
    check_residual(residual)
    rows, width = hidden.shape
    inner, dtype = gate_up.shape[1] // 2, gate_up.dtype
    gpu.require(rows <= MAX_ROWS, f"hidden must have at most {MAX_ROWS} rows", rows)
    sizes = f"hidden and gate_up must have at most {MAX_WIDTH} and 2 x {MAX_INNER} columns"
    gpu.require(width <= MAX_WIDTH and inner <= MAX_INNER, sizes, f"{width} and 2 x {inner}")
    gpu.require(dtype in gpu.KERNEL_DTYPES, "gate_up must be fp32, bf16 or fp16", dtype)
    gpu.check_operands(
        {
            "gate_up": (gate_up, (width, 2 * inner), dtype),
            "down": (down, (inner, width), dtype),
            "gate_up_bias": (weights.gate_up_bias, (2 * inner,), dtype),
            "down_bias": (weights.down_bias, (width,), dtype),
            "channels_kept": (plan.channels_kept, (rows,), torch.int64),
            "bit_widths": (plan.bit_widths, (rows,), torch.int64),
            "inner_kept": (plan.inner_kept, (rows,), torch.int64),
            "down_norms": (weights.down_norms, (inner,), torch.float32),
        },
        hidden,
    )
    if plan.inner_kept is not None and weights.down_norms is None:
        raise gpu.KernelInputError("down_norms must be there where inner_kept is, got None")


def activate_with_triton(gate_up: Tensor, activation: str) -> Tensor:
    """[R, 2·I], gate first → activation(gate) · up [R, I], computed in fp32."""
    from kernels.gated_mlp.triton_kernel import activate_rows

    gpu.check_rows(gate_up, 2 * MAX_INNER)
    rows, inner = gate_up.shape[0], gate_up.shape[1] // 2
    output = gate_up.new_empty((rows, inner))
    given = {"gate_up": gate_up.contiguous(), "output": output, "inner_size": inner}
    given["silu"] = int(activation == "silu")
    gpu.launch(activate_rows, (rows, -(-inner // 1024)), given, {"BLOCK": 1024})
    return output


def _list_used_channels(prepared: Tensor, rows_at_once: int) -> dict[str, Tensor]:
    """The rows [R, C] and, for each tile of so many, the channels that are not 0 in some of them
    [tiles, C] int32, ascending, and their counts [tiles] int32."""
    from kernels.gated_mlp.triton_kernel import list_channels

    rows, width = prepared.shape
    tiles = -(-rows // rows_at_once)
    channels = prepared.new_empty((tiles, width), dtype=torch.int32)
    listed = {"prepared": prepared, "channels": channels, "counts": channels.new_empty(tiles)}
    sizes = {"num_rows": rows, "num_channels": width, "rows_at_once": rows_at_once}
    gpu.launch(list_channels, (tiles,), listed | sizes, {"BLOCK": 1024})
    return listed


def multiply_with_triton(
    residual: Residual, weights: MlpWeights, plan: MlpPlan
) -> tuple[Tensor, Tensor]:
    """The stream and ``reference.gated_mlp`` of it. Raises: as ``check_mlp``."""
    check_mlp(residual, weights, plan)
    bits, block, into, between = plan.bit_widths, plan.quant_block, NOTHING, NOTHING
    input_bits = bits if plan.quantise_inputs else None
    if plan.channels_kept is not None:
        into = Dropping(plan.channels_kept, input_bits, block)
    if plan.inner_kept is not None:
        between = Dropping(plan.inner_kept, input_bits, block, weights.down_norms)
    gate_up = weights.gate_up, weights.gate_up_bias
    stream, inner = _multiplied(residual, into, *gate_up, weights.activation)
    if input_bits is not None and plan.inner_kept is None:
        inner = quantise_rows(inner, input_bits, block)
    _, output = _multiplied(Residual(inner), between, weights.down, weights.down_bias)
    if bits is not None and input_bits is None:
        output = quantise_rows(output, bits, block)
    return stream, output


def _multiplied(
    rows: Residual,
    dropping: Dropping,
    weight: Tensor,
    bias: Tensor | None,
    activation: str | None = None,  # of gate and up
) -> tuple[Tensor, Tensor]:
    """The rows after their update, and their product, [R, N] in the weights' dtype."""
    from kernels.gated_mlp.triton_kernel import multiply_rows

    num_rows, dtype, (width, length) = rows.hidden.shape[0], weight.dtype, weight.shape
    gated, listed = activation is not None, dropping.kept is not None
    block_m = 16 if num_rows <= 16 or dtype == torch.float32 else 64  # fp32 would spill
    columns = length // 2 if gated else length
    tiles, parts = -(-num_rows // block_m), -(-columns // _COLUMNS)
    wanted = -(-TARGET_PROGRAMS // (tiles * parts))
    splits = max(1, min(wanted, width // CHANNELS_PER_SPLIT, MAX_SPLITS))
    prepares = num_rows == 1 and width <= MAX_AT_ONCE and (gated or listed)
    if listed and not prepares:
        lists_itself = num_rows == 1 and width <= MAX_LISTED
        given = prepare_with_triton(rows, dtype, dropping, lists=lists_itself)
        if not lists_itself:
            given |= _list_used_channels(given["prepared"], block_m)
    else:
        given = row_arguments(rows, dtype, dropping, prepares * parts * splits)
        if not prepares:
            given["prepared"] = rows.hidden
    several = splits * (splits > 1)
    output = weight.new_empty((num_rows, columns))
    partial = weight.new_empty((several, num_rows, length), dtype=torch.float32)
    gpu.launch(
        multiply_rows,
        (tiles, parts, splits),
        {**given, "columns": columns, "silu": int(activation == "silu"), "weight": weight,
         "bias": output if bias is None else bias, "partial": partial, "output": output,
         "counters": gpu.counters(output, tiles * parts), "num_rows": num_rows,
         "biased": int(bias is not None)},
        {"BLOCK_M": block_m, "BLOCK_N": _COLUMNS, "BLOCK_K": _CHANNELS,
         "BLOCK": MAX_AT_ONCE if prepares and width > 1024 else 1024, "PREPARES": prepares,
         "LISTED": listed, "GATED": gated, "SPLIT": several > 0,
         "QUANT_BLOCK": dropping.quant_block if prepares else -1},
        num_warps=4 if block_m == 16 else 8,
        num_stages=3,
    )  # fmt: skip
    return given["stream"], output
