"""Magnitude pruning on Triton, as a custom operation of torch."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.gpu.row_operations import check_counts, check_rows, fits_rows, run_rows

MAX_PRUNED = 8192  # ranking takes more registers
_FP32 = (torch.float32,)


def fits_pruning(hidden: Tensor) -> bool:
    """As ``fits_rows``, for ``prune_rows``: fp32, which is what a decode step prunes."""
    return fits_rows("keep_largest_channels", hidden, MAX_PRUNED, _FP32)


@torch.library.custom_op("sol::keep_largest_channels", mutates_args=())
def prune_rows(hidden: Tensor, channels_kept: Tensor) -> Tensor:
    """As ``reference.keep_largest_channels``."""
    from kernels.channel_pruning.triton_kernel import keep_largest_rows

    check_rows(hidden, MAX_PRUNED, _FP32)
    check_counts("channels_kept", channels_kept, hidden)
    return run_rows(keep_largest_rows, hidden, "hidden", {"channels_kept": channels_kept})


@prune_rows.register_fake
def _prune_shape(hidden: Tensor, channels_kept: Tensor) -> Tensor:
    return hidden.new_empty(hidden.shape)
