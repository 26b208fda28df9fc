"""The gated MLP of a decode step, pruned and quantised, as one operation; and its activation."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from kernels.activation_quantisation import quantise_rows
from kernels.cpu import as_array, on_cpu
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
    launch,
    row_block,
)
from kernels.residual import Residual, check_residual, enter_with_triton

__all__ = ["MlpPlan", "MlpWeights", "activated", "fused_gated_mlp"]

MAX_ROWS = 64  # beyond, the rows' kept channels are together nearly all of them
MAX_WIDTH = 8192  # one program prunes a row
MAX_INNER = 16384
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
    device has. Rows that keep every channel are left to those too: a dense product is
    what a vendor's library does best.
    """
    if plan.channels_kept is None:
        return None
    rows = residual.hidden
    return by_kernels("gated_mlp", rows, multiply_with_triton, residual, weights, plan)


def activated(gate_up: Tensor, activation: Literal["silu", "gelu_tanh"]) -> Tensor:
    """``reference.activated``; a decode step's rows in one kernel on CUDA, a prefill's
    [R, T, 2·I] on a CPU."""
    made = None
    if gate_up.dim() == 2:
        made = by_kernels("gated_mlp", gate_up, activate_with_triton, gate_up, activation)
    elif on_cpu(gate_up):
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
    check_rows(gate_up, 2 * MAX_INNER)
    inner = gate_up.new_empty((gate_up.shape[0], gate_up.shape[1] // 2))
    _finish(gate_up.contiguous()[None], None, (None, 0), inner, activation)
    return inner


def _finish(
    partial: Tensor,
    bias: Tensor | None,
    rounding: tuple[Tensor | None, int],
    output: Tensor,
    activation: str | None = None,
) -> None:
    """Launch ``finish_rows`` on partial [splits, R, C], [splits, R, 2·C] with an activation; fills
    output [R, C].

    Args:
        rounding: bit widths, and channels that share a scale.
    """
    from kernels.gated_mlp.triton_kernel import finish_rows

    bits, quant_block = rounding
    rows, width = output.shape
    block, options = row_block(width)
    launch(
        finish_rows,
        (rows,),
        {"partial": partial, "bias": output if bias is None else bias,
         "bit_widths": output.new_empty(1, dtype=torch.int64) if bits is None else bits,
         "output": output, "num_rows": rows, "width": width, "splits": partial.shape[0],
         "biased": int(bias is not None), "quantising": int(bits is not None),
         "silu": int(activation == "silu")},
        {"BLOCK": block, "QUANT_BLOCK": quant_block, "GATED": activation is not None},
        options,
    )  # fmt: skip


def _empty_lists(rows: Tensor, tiles: int) -> tuple[Tensor, Tensor]:
    """Room for the channels of each tile [tiles, C] and how many they are [tiles], int32."""
    channels = rows.new_empty((tiles, rows.shape[1]), dtype=torch.int32)
    return channels, rows.new_empty(tiles, dtype=torch.int32)


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
    """One call: buffers between its kernels, and the launches in order."""

    def __init__(self, residual: Residual, weights: MlpWeights, plan: MlpPlan) -> None:
        self.residual, self.weights, self.plan = residual, weights, plan
        self.num_rows, self.width = residual.hidden.shape
        self.inner = weights.gate_up.shape[1] // 2
        few = self.num_rows <= 16 or weights.gate_up.dtype == torch.float32  # fp32 would spill
        self.block_m = 16 if few else 64
        self.tiles = -(-self.num_rows // self.block_m)
        self.input_bits = plan.bit_widths if plan.quantise_inputs else None

    def run(self) -> tuple[Tensor, Tensor]:
        from kernels.gated_mlp.triton_kernel import down_rows

        hidden, dtype = self.residual.hidden, self.weights.gate_up.dtype
        lists = _empty_lists(hidden, 1) if self.num_rows == 1 else None
        kept, bits = self.plan.channels_kept, self.input_bits
        sharing = self.plan.quant_block
        stream, prepared = enter_with_triton(self.residual, dtype, kept, bits, lists, sharing)
        inner = self._inner(prepared, lists or _list_used_channels(prepared, self.block_m))
        channels = counts = hidden.view(torch.int32)  # not read
        listed = self.plan.inner_kept is not None
        if listed:
            inner, (channels, counts) = self._pruned(inner)
        splits = self._splits(self.width, self.inner)
        partial = self.residual.hidden.new_empty((splits, self.num_rows, self.width))
        launch(
            down_rows,
            (self.tiles, -(-self.width // _COLUMNS), splits),
            {"inner": inner, "channels": channels, "counts": counts,
             "weight": self.weights.down, "partial": partial,
             "num_rows": self.num_rows, "inner_size": self.inner, "width": self.width},
            {"BLOCK_M": self.block_m, **_TILE, "LISTED": listed},
            self._options(),
        )  # fmt: skip
        output = torch.empty_like(prepared)
        bits = None if self.plan.quantise_inputs else self.plan.bit_widths
        _finish(partial, self.weights.down_bias, (bits, sharing), output)
        return stream, output

    def _inner(self, prepared: Tensor, lists: tuple[Tensor, Tensor]) -> Tensor:
        """Activations between the projections [R, I] in the weights' dtype."""
        from kernels.gated_mlp.triton_kernel import gate_up_rows

        splits = self._splits(self.inner, self.width)
        # Pruned ones are quantised once they are pruned.
        bits = self.input_bits if self.plan.inner_kept is None else None
        fused = splits == 1 and bits is None
        inner = prepared.new_empty((self.num_rows, self.inner))
        sizes = splits, self.num_rows, 0 if fused else 2 * self.inner
        partial = self.residual.hidden.new_empty(sizes)
        bias, activation = self.weights.gate_up_bias, self.weights.activation
        launch(
            gate_up_rows,
            (self.tiles, -(-self.inner // _COLUMNS), splits),
            {"prepared": prepared, "channels": lists[0], "counts": lists[1],
             "weight": self.weights.gate_up, "bias": prepared if bias is None else bias,
             "output": inner if fused else partial, "num_rows": self.num_rows,
             "num_channels": self.width, "inner_size": self.inner,
             "biased": int(bias is not None), "silu": int(activation == "silu")},
            {"BLOCK_M": self.block_m, **_TILE, "FUSED": fused},
            self._options(),
        )  # fmt: skip
        if not fused:
            _finish(partial, bias, (bits, self.plan.quant_block), inner, activation)
        return inner

    def _pruned(self, inner: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The inner channels that weigh most, then quantised, and their lists."""
        from kernels.gated_mlp.triton_kernel import keep_heaviest_rows

        block, options = row_block(self.inner)
        lists = _empty_lists(inner, 1)
        alone = self.num_rows == 1
        launch(
            keep_heaviest_rows,
            (self.num_rows,),
            {"inner": inner, "norms": self.weights.down_norms, "inner_kept": self.plan.inner_kept,
             "channels": lists[0], "counts": lists[1], "inner_size": self.inner},
            {"BLOCK": block, "LISTED": alone},
            # Ranking takes registers, of which more threads have fewer.
            {**options, "num_warps": min(16, options["num_warps"])},
        )  # fmt: skip
        if self.input_bits is not None:
            inner = quantise_rows(inner, self.input_bits, self.plan.quant_block)
        return inner, lists if alone else _list_used_channels(inner, self.block_m)

    def _options(self) -> dict[str, int]:
        return {"num_warps": 4 if self.block_m == 16 else 8, "num_stages": 3}

    def _splits(self, columns: int, channels: int) -> int:
        programs = self.tiles * -(-columns // _COLUMNS)
        wanted = min(-(-TARGET_PROGRAMS // programs), channels // CHANNELS_PER_SPLIT, MAX_SPLITS)
        return max(1, wanted)
