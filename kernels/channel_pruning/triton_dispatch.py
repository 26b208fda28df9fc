"""Magnitude pruning on Triton."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.gpu.triton_support import check_operands, fits_rows, run_rows

MAX_PRUNED = 8192  # ranking takes more registers


def fits_pruning(hidden: Tensor) -> bool:
    """As ``fits_rows``, for ``prune_rows``: fp32, which is what a decode step prunes."""
    return fits_rows("keep_largest_channels", hidden, MAX_PRUNED, (torch.float32,))


def prune_rows(hidden: Tensor, channels_kept: Tensor) -> Tensor:
    """As ``reference.keep_largest_channels``, of what ``fits_pruning``."""
    from kernels.channel_pruning.triton_kernel import keep_largest_rows

    check_operands({"channels_kept": (channels_kept, (hidden.shape[0],), torch.int64)}, hidden)
    return run_rows(keep_largest_rows, hidden, "hidden", {"channels_kept": channels_kept})
