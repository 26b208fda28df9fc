"""The gated MLP of a decode step, pruned and quantised, as one operation; and its activation."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from kernels.activation_quantisation import quantise_rows
from kernels.cpu import as_array, takes_bf16
from kernels.cpu.threads import cpu_kernel, torch_with_numba
from kernels.gated_mlp import reference
from kernels.gated_mlp.reference import MlpPlan, MlpWeights
from kernels.gpu.triton_support import (
    KERNEL_DTYPES,
    KernelInputError,
    UnsupportedByKernel,
    by_kernels,
    check_operands,
    check_rows,
    counters,
    launch,
    row_block,
)
from kernels.residual import (
    Residual,
    check_residual,
    enter_with_triton,
    entering_arguments,
)

__all__ = ["MlpPlan", "MlpWeights", "activated", "fused_gated_mlp"]

MAX_ROWS = 64  # beyond, the rows' kept channels are together nearly all of them
MAX_WIDTH = 8192  # one program prunes a row
MAX_INNER = 16384
MAX_AT_ONCE = 2048  # channels of a row that every program of a product prepares for itself
# Numbers of gate and up of a small MLP: an H100 reads 16 MB in 5 µs, as long as two launches take.
MAX_DENSE = 2**23
TARGET_PROGRAMS = 264  # about two for each of an H100's 132 cores
CHANNELS_PER_SPLIT = 128
MAX_SPLITS = 16
_COLUMNS = 64
_CHANNELS = 32  # at a time
_TILE = {"BLOCK_N": _COLUMNS, "BLOCK_K": _CHANNELS}


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
    return by_kernels("gated_mlp", rows, multiply_with_triton, residual, weights, plan)


def activated(gate_up: Tensor, activation: Literal["silu", "gelu_tanh"]) -> Tensor:
    """``reference.activated``; a decode step's rows in one kernel on CUDA, a prefill's
    [R, T, 2·I] bf16 on a CPU."""
    made = None
    if gate_up.dim() == 2:
        made = by_kernels("gated_mlp", gate_up, activate_with_triton, gate_up, activation)
    elif takes_bf16(gate_up):
        made = _activate_on_cpu(gate_up, activation)
    return reference.activated(gate_up, activation) if made is None else made


def _activate_on_cpu(gate_up: Tensor, activation: str) -> Tensor | None:
    kernel = cpu_kernel(f"{__name__}.cpu", "activate_rows")
    if kernel is None:
        return None
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
    inner = gate_up.shape[1] // 2
    if rows > MAX_ROWS:
        raise UnsupportedByKernel(f"hidden must have at most {MAX_ROWS} rows, got {rows}")
    if width > MAX_WIDTH or inner > MAX_INNER:
        raise UnsupportedByKernel(
            f"hidden and gate_up must have at most {MAX_WIDTH} and 2 x {MAX_INNER} columns, "
            f"got {width} and 2 x {inner}"
        )
    if gate_up.dtype not in KERNEL_DTYPES:
        raise UnsupportedByKernel(f"gate_up must be fp32, bf16 or fp16, got {gate_up.dtype}")
    dtype = gate_up.dtype
    check_operands(
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
        raise KernelInputError("down_norms must be there where inner_kept is, got None")


def activate_with_triton(gate_up: Tensor, activation: str) -> Tensor:
    """[R, 2·I], gate first → activation(gate) · up [R, I], computed in fp32."""
    from kernels.gated_mlp.triton_kernel import activate_rows

    check_rows(gate_up, 2 * MAX_INNER)
    rows, inner = gate_up.shape[0], gate_up.shape[1] // 2
    output = gate_up.new_empty((rows, inner))
    launch(
        activate_rows,
        (rows, -(-inner // 1024)),
        {"gate_up": gate_up.contiguous(), "output": output, "inner_size": inner,
         "silu": int(activation == "silu")},
        {"BLOCK": 1024},
        {"num_warps": 4, "num_stages": 1},
    )  # fmt: skip
    return output


def _empty_lists(rows: Tensor, lines: int) -> tuple[Tensor, Tensor]:
    """Memory for channels, [lines, C], and how many they are [lines], int32."""
    channels = rows.new_empty((lines, rows.shape[1]), dtype=torch.int32)
    return channels, rows.new_empty(lines, dtype=torch.int32)


def _list_used_channels(prepared: Tensor, rows_at_once: int) -> tuple[Tensor, Tensor]:
    """List, for each tile of so many rows of [R, C], the channels that are not 0 in some row.

    Returns: channels [tiles, C] int32, ascending, and how many of them count [tiles] int32.
    """
    from kernels.gated_mlp.triton_kernel import list_channels

    rows, width = prepared.shape
    tiles = -(-rows // rows_at_once)
    channels, counts = _empty_lists(prepared, tiles)
    launch(
        list_channels,
        (tiles,),
        {"prepared": prepared, "channels": channels, "counts": counts,
         "num_rows": rows, "num_channels": width, "rows_at_once": rows_at_once},
        {"BLOCK": 1024},
        {"num_warps": 4, "num_stages": 1},
    )  # fmt: skip
    return channels, counts


def multiply_with_triton(
    residual: Residual, weights: MlpWeights, plan: MlpPlan
) -> tuple[Tensor, Tensor]:
    """The stream and ``reference.gated_mlp`` of it. Raises: as ``check_mlp``."""
    check_mlp(residual, weights, plan)
    return _Mlp(residual, weights, plan).run()


class _Mlp:
    """One call: memory between its kernels, and the launches in order."""

    def __init__(self, residual: Residual, weights: MlpWeights, plan: MlpPlan) -> None:
        self.residual, self.weights, self.plan = residual, weights, plan
        self.num_rows, self.width = residual.hidden.shape
        self.inner, self.dtype = weights.gate_up.shape[1] // 2, weights.gate_up.dtype
        few = self.num_rows <= 16 or self.dtype == torch.float32  # fp32 would spill
        self.block_m = 16 if few else 64
        self.tiles = -(-self.num_rows // self.block_m)
        self.input_bits = plan.bit_widths if plan.quantise_inputs else None

    def run(self) -> tuple[Tensor, Tensor]:
        stream, inner = self._activations()
        bits, sharing = self.plan.bit_widths, self.plan.quant_block
        if self.input_bits is not None and self.plan.inner_kept is None:
            inner = quantise_rows(inner, self.input_bits, sharing)
        output = self._multiplied(inner)
        if bits is not None and self.input_bits is None:
            output = quantise_rows(output, bits, sharing)
        return stream, output

    def _activations(self) -> tuple[Tensor, Tensor]:
        """The stream, and what is between the projections, [R, I] in the weights' dtype."""
        from kernels.gated_mlp.triton_kernel import gate_up_rows

        kept, bits = self.plan.channels_kept, self.input_bits
        grid = self._grid(self.inner, self.width)
        enters, lines = self._is_alone(self.width), grid[1] * grid[2]
        given = entering_arguments(self.residual, self.dtype, kept, bits, lines if enters else 0)
        if enters:
            lists = _empty_lists(given["normed"], lines)
        else:
            how = kept, bits, self.plan.quant_block
            stream, normed = enter_with_triton(self.residual, self.dtype, *how)
            given |= {"stream": stream, "normed": normed}
            lists = _list_used_channels(normed, self.block_m)
        given |= {
            "channels": lists[0], "counts": lists[1], "inner_size": self.inner,
            "silu": int(self.weights.activation == "silu"),
        }  # fmt: skip
        weights = self.weights.gate_up, self.weights.gate_up_bias
        constants = {"ENTERS": enters, "PRUNED": kept is not None}
        inner = self._product(gate_up_rows, weights, self.inner, grid, given, constants)
        return given["stream"], inner

    def _multiplied(self, inner: Tensor) -> Tensor:
        """The output [R, C] of activations, of which those that weigh least are dropped first."""
        from kernels.gated_mlp.triton_kernel import down_rows

        kept, grid = self.plan.inner_kept, self._grid(self.width, self.inner)
        prunes, lines = kept is not None and self._is_alone(self.inner), grid[1] * grid[2]
        if kept is not None and not prunes:
            inner = self._pruned(inner, kept)
        prepared = inner.new_empty((lines if prunes else 0, self.inner))
        listed = kept is not None and not prunes
        lists = _list_used_channels(inner, self.block_m) if listed else _empty_lists(inner, lines)
        bits, unused = self.input_bits, inner.new_empty(1, dtype=torch.int64)
        given = {
            "inner": inner,
            "norms": inner if self.weights.down_norms is None else self.weights.down_norms,
            "inner_kept": unused if kept is None else kept,
            "bit_widths": unused if bits is None else bits, "prepared": prepared,
            "channels": lists[0], "counts": lists[1], "inner_size": self.inner,
            "width": self.width, "quantising": int(bits is not None),
        }  # fmt: skip
        weights = self.weights.down, self.weights.down_bias
        constants = {"PRUNES": prunes, "LISTED": kept is not None}
        return self._product(down_rows, weights, self.width, grid, given, constants)

    def _pruned(self, inner: Tensor, kept: Tensor) -> Tensor:
        """The inner channels that weigh most, then quantised; the others are 0."""
        from kernels.gated_mlp.triton_kernel import keep_heaviest_rows

        (block, options), bits = row_block(self.inner), self.input_bits
        launch(
            keep_heaviest_rows,
            (self.num_rows,),
            {"inner": inner, "norms": self.weights.down_norms, "inner_kept": kept,
             "bit_widths": kept if bits is None else bits, "inner_size": self.inner,
             "quantising": int(bits is not None)},
            {"BLOCK": block, "QUANT_BLOCK": self.plan.quant_block},
            # Ranking takes registers, of which more threads have fewer.
            {**options, "num_warps": min(16, options["num_warps"])},
        )  # fmt: skip
        return inner

    def _product(
        self,
        kernel: Any,
        weights: tuple[Tensor, Tensor | None],  # and bias
        columns: int,
        grid: tuple[int, int, int],
        given: dict[str, Any],  # the kernel's first arguments
        constants: dict[str, Any],
    ) -> Tensor:
        """Launch ``gate_up_rows`` or ``down_rows``; returns their output [R, columns]."""
        weight, bias = weights
        several, rows = grid[2] * (grid[2] > 1), self.num_rows
        output = weight.new_empty((rows, columns))
        partial = weight.new_empty((several, rows, weight.shape[1]), dtype=torch.float32)
        launch(
            kernel,
            grid,
            {**given, "weight": weight, "bias": output if bias is None else bias,
             "partial": partial, "output": output, "counters": counters(output, grid[0] * grid[1]),
             "num_rows": rows, "biased": int(bias is not None)},
            {"BLOCK_M": self.block_m, **_TILE, **constants, "SPLIT": several > 0,
             "BLOCK": 1024 if weight.shape[0] <= 1024 else MAX_AT_ONCE,
             "QUANT_BLOCK": self.plan.quant_block},
            {"num_warps": 4 if self.block_m == 16 else 8, "num_stages": 3},
        )  # fmt: skip
        return output

    def _is_alone(self, width: int) -> bool:
        """Return whether each program of a product can prepare its input, one row, by itself."""
        return self.num_rows == 1 and width <= MAX_AT_ONCE

    def _grid(self, columns: int, channels: int) -> tuple[int, int, int]:
        """Tiles of rows, parts of the columns, splits of the channels."""
        parts = -(-columns // _COLUMNS)
        wanted = -(-TARGET_PROGRAMS // (self.tiles * parts))
        splits = max(1, min(wanted, channels // CHANNELS_PER_SPLIT, MAX_SPLITS))
        return self.tiles, parts, splits
