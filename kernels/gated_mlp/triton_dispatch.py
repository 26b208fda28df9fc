"""Checks the MLP's weights and plan, and launches its Triton kernels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kernels.activation_quantisation.triton_dispatch import quantise_rows
from kernels.gated_mlp.reference import MlpPlan, MlpWeights
from kernels.gpu.triton_support import (
    KERNEL_DTYPES,
    KernelInputError,
    UnsupportedByKernel,
    check_operands,
    launch,
    row_block,
    runs_triton,
    supported,
)

MAX_ROWS = 64  # beyond, the rows' kept channels are together nearly all of them
MAX_WIDTH = 8192  # one program prunes a row
MAX_INNER = 16384
TARGET_PROGRAMS = 264  # about two for each of an H100's 132 cores
CHANNELS_PER_SPLIT = 128
MAX_SPLITS = 16
_COLUMNS = 64
_CHANNELS = 32  # at a time
_TILE = {"BLOCK_N": _COLUMNS, "BLOCK_K": _CHANNELS}


def check_mlp(hidden: Tensor, weights: MlpWeights, plan: MlpPlan) -> None:
    """Raise what the kernels refuse.

    Raises: UnsupportedByKernel for sizes, dtypes and layouts that only the reference
        takes; KernelInputError for shapes and devices that are wrong. Both name the argument.
    """
    gate_up, down = weights.gate_up, weights.down
    if hidden.dim() != 2 or hidden.dtype != torch.float32:
        raise UnsupportedByKernel(
            f"hidden must be [R, C] float32, got {list(hidden.shape)} {hidden.dtype}"
        )
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


def triton_fits(hidden: Tensor, weights: MlpWeights, plan: MlpPlan) -> bool:
    """Return whether the kernels run here and take these; what only the reference takes is logged.

    Raises: KernelInputError for arguments that are wrong for both.
    """
    return runs_triton(hidden) and supported("gated_mlp", lambda: check_mlp(hidden, weights, plan))


def _list_used_channels(prepared: Tensor, rows_at_once: int) -> tuple[Tensor, Tensor]:
    """Per tile of so many rows of [R, C], the channels that are not 0 in some row.

    Returns: channels [tiles, C] int32, ascending, and how many of them count [tiles] int32.
    """
    from kernels.gated_mlp.triton_kernel import list_channels

    rows, width = prepared.shape
    tiles = -(-rows // rows_at_once)
    channels = prepared.new_empty((tiles, width), dtype=torch.int32)
    counts = prepared.new_empty(tiles, dtype=torch.int32)
    launch(
        list_channels,
        (tiles,),
        {"prepared": prepared, "channels": channels, "counts": counts,
         "num_rows": rows, "num_channels": width, "rows_at_once": rows_at_once},
        {"BLOCK": 1024},
        {"num_warps": 4, "num_stages": 1},
    )  # fmt: skip
    return channels, counts


def multiply_with_triton(hidden: Tensor, weights: MlpWeights, plan: MlpPlan) -> Tensor:
    """``reference.gated_mlp`` in kernels, where ``triton_fits``."""
    return _Mlp(hidden.contiguous(), weights, plan).run()


class _Mlp:
    """One call: buffers between its kernels, and the launches in order."""

    def __init__(self, hidden: Tensor, weights: MlpWeights, plan: MlpPlan) -> None:
        self.hidden, self.weights, self.plan = hidden, weights, plan
        self.num_rows, self.width = hidden.shape
        self.inner = weights.gate_up.shape[1] // 2
        few = self.num_rows <= 16 or weights.gate_up.dtype == torch.float32  # fp32 would spill
        self.block_m = 16 if few else 64
        self.tiles = -(-self.num_rows // self.block_m)
        self.silu = int(weights.activation == "silu")

    def run(self) -> Tensor:
        from kernels.gated_mlp import triton_kernel as kernels

        prepared = self._prepared(kernels)
        inner = self._inner(kernels, prepared)
        listed = self.plan.inner_kept is not None
        channels = counts = self.hidden.view(torch.int32)  # not read
        if listed:
            inner = self._pruned(kernels, inner)
            channels, counts = _list_used_channels(inner, self.block_m)
        splits = self._splits(self.width, self.inner)
        partial = self.hidden.new_empty((splits, self.num_rows, self.width))
        launch(
            kernels.down_rows,
            (self.tiles, -(-self.width // _COLUMNS), splits),
            {"inner": inner, "channels": channels, "counts": counts,
             "weight": self.weights.down, "partial": partial,
             "num_rows": self.num_rows, "inner_size": self.inner, "width": self.width},
            {"BLOCK_M": self.block_m, **_TILE, "LISTED": listed},
            self._options(),
        )  # fmt: skip
        output = torch.empty_like(prepared)
        block, options = row_block(self.width)
        launch(
            kernels.finish_rows,
            (self.num_rows,),
            {"partial": partial, **self._bias(self.weights.down_bias),
             **self._bits(not self.plan.quantise_inputs, {"output": output}),
             "num_rows": self.num_rows, "width": self.width, "splits": splits,
             **self._flags(self.weights.down_bias, not self.plan.quantise_inputs)},
            {"BLOCK": block},
            options,
        )  # fmt: skip
        return output

    def _prepared(self, kernels: Any) -> Tensor:
        """The pruned and quantised input [R, C] in the weights' dtype."""
        prepared = self.hidden.new_empty(self.hidden.shape, dtype=self.weights.gate_up.dtype)
        kept = self.plan.channels_kept
        quantising = self.plan.quantise_inputs and self.plan.bit_widths is not None
        block, options = row_block(self.width)
        launch(
            kernels.prepare_rows,
            (self.num_rows,),
            {"hidden": self.hidden, "channels_kept": self._unused() if kept is None else kept,
             **self._bits(quantising, {"prepared": prepared}), "num_channels": self.width,
             "pruning": int(kept is not None), "quantising": int(quantising)},
            {"BLOCK": block},
            options,
        )  # fmt: skip
        return prepared

    def _inner(self, kernels: Any, prepared: Tensor) -> Tensor:
        """Activations between the projections [R, I] in the weights' dtype."""
        channels, counts = _list_used_channels(prepared, self.block_m)
        splits = self._splits(self.inner, self.width)
        quantising = self.plan.quantise_inputs and self.plan.bit_widths is not None
        quantising = quantising and self.plan.inner_kept is None  # or else once it is pruned
        fused = splits == 1 and not quantising
        inner = prepared.new_empty((self.num_rows, self.inner))
        partial = self.hidden.new_empty((splits, self.num_rows, 0 if fused else 2 * self.inner))
        bias = self.weights.gate_up_bias
        launch(
            kernels.gate_up_rows,
            (self.tiles, -(-self.inner // _COLUMNS), splits),
            {"prepared": prepared, "channels": channels, "counts": counts,
             "weight": self.weights.gate_up, **self._bias(bias),
             "output": inner if fused else partial, "num_rows": self.num_rows,
             "num_channels": self.width, "inner_size": self.inner,
             "biased": int(bias is not None), "silu": self.silu},
            {"BLOCK_M": self.block_m, **_TILE, "FUSED": fused},
            self._options(),
        )  # fmt: skip
        if fused:
            return inner
        block, options = row_block(self.inner)
        launch(
            kernels.activate_rows,
            (self.num_rows,),
            {"partial": partial, **self._bias(bias), **self._bits(quantising, {"inner": inner}),
             "num_rows": self.num_rows, "inner_size": self.inner, "splits": splits,
             **self._flags(bias, quantising), "silu": self.silu},
            {"BLOCK": block},
            options,
        )  # fmt: skip
        return inner

    def _pruned(self, kernels: Any, inner: Tensor) -> Tensor:
        """The inner channels that weigh most, and then quantised."""
        block, options = row_block(self.inner)
        launch(
            kernels.keep_heaviest_rows,
            (self.num_rows,),
            {"inner": inner, "norms": self.weights.down_norms, "inner_kept": self.plan.inner_kept,
             "inner_size": self.inner},
            {"BLOCK": block},
            # Ranking takes registers, of which more threads have fewer.
            {**options, "num_warps": min(16, options["num_warps"])},
        )  # fmt: skip
        if self.plan.quantise_inputs and self.plan.bit_widths is not None:
            return quantise_rows(inner, self.plan.bit_widths)
        return inner

    def _options(self) -> dict[str, int]:
        return {"num_warps": 4 if self.block_m == 16 else 8, "num_stages": 3}

    def _splits(self, columns: int, channels: int) -> int:
        programs = self.tiles * -(-columns // _COLUMNS)
        wanted = min(-(-TARGET_PROGRAMS // programs), channels // CHANNELS_PER_SPLIT, MAX_SPLITS)
        return max(1, wanted)

    def _bias(self, bias: Tensor | None) -> dict[str, Tensor]:
        return {"bias": self.weights.gate_up if bias is None else bias}

    def _bits(self, quantising: bool, then: dict[str, Tensor]) -> dict[str, Tensor]:
        bits = self.plan.bit_widths
        return {"bit_widths": bits if quantising and bits is not None else self._unused(), **then}

    def _flags(self, bias: Tensor | None, quantising: bool) -> dict[str, int]:
        return {
            "biased": int(bias is not None),
            "quantising": int(quantising and self.plan.bit_widths is not None),
        }

    def _unused(self) -> Tensor:
        """Stands for an int64 argument that the kernel will not read."""
        return self.hidden.new_empty(1, dtype=torch.int64)
