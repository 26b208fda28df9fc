"""Magnitude pruning of the MLP's channels: its input's (METHOD: keep the k largest |h|), or those
between its projections."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.channel_pruning import reference
from kernels.cpu import as_array
from kernels.cpu.threads import MANY_ROWS, cpu_kernel
from kernels.gpu import triton_support as gpu
from kernels.residual import Dropping, Residual, prepare_with_triton

__all__ = ["keep_heaviest_channels", "keep_largest_channels"]

MAX_PRUNED = 8192  # on CUDA: ranking takes more registers


def keep_largest_channels(hidden: Tensor, channels_kept: Tensor) -> Tensor:
    """``reference.keep_largest_channels``, bit for bit but for the sign of zeros.

    fp32 goes to Triton on CUDA, to Numba on a CPU.
    """
    # fp32 is what a decode step prunes.
    made = gpu.by_kernels("keep_largest_channels", hidden, prune_rows, hidden, channels_kept)
    if made is not None:
        return made
    fits = hidden.device.type == "cpu" and hidden.dtype == torch.float32
    kernel = cpu_kernel(f"{__name__}.cpu", "keep_largest_rows") if fits else None
    if kernel is None:
        return reference.keep_largest_channels(hidden, channels_kept)
    kept = torch.empty_like(hidden, memory_format=torch.contiguous_format)
    kernel(hidden.contiguous().numpy(), channels_kept.numpy(), kept.numpy())
    return kept


def keep_heaviest_channels(inner: Tensor, norms: Tensor, channels_kept: Tensor) -> Tensor:
    """``reference.keep_heaviest_channels``, ranked as above; many rows on a CPU go to Numba."""
    dtypes = torch.float32, torch.bfloat16
    many = inner.shape[0] >= MANY_ROWS and inner.device.type == "cpu" and inner.dtype in dtypes
    kernel = cpu_kernel(f"{__name__}.cpu", "keep_heaviest_rows") if many else None
    if kernel is not None:
        kept = torch.empty_like(inner, memory_format=torch.contiguous_format)
        numbers = as_array(inner.contiguous())
        kernel(numbers, norms.numpy(), channels_kept.numpy(), as_array(kept))
        return kept
    weights = keep_largest_channels(inner.float() * norms, channels_kept)
    return torch.where(weights != 0, inner, 0)


def prune_rows(hidden: Tensor, channels_kept: Tensor) -> Tensor:
    """``reference.keep_largest_channels``. Raises: as ``check_rows``."""
    gpu.check_rows(hidden, MAX_PRUNED, (torch.float32,))
    gpu.check_operands({"channels_kept": (channels_kept, (hidden.shape[0],), torch.int64)}, hidden)
    rows, how = Residual(hidden.contiguous()), Dropping(channels_kept)
    prepared: Tensor = prepare_with_triton(rows, torch.float32, how)["prepared"]
    return prepared
