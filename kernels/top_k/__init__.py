"""The largest few of a vector, such as the most probable tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.cpu.threads import cpu_kernel
from kernels.top_k import reference

__all__ = ["MANY_NUMBERS", "top_k"]

MANY_NUMBERS = 2**12  # below, torch's own takes no longer


def top_k(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """As ``reference.top_k``; many numbers on a CPU go to Numba.

    Args:
        values: [N] fp32, no NaN; N at least ``count``.
    """
    fits = values.shape[0] >= MANY_NUMBERS and values.device.type == "cpu"
    fits = fits and values.dtype == torch.float32 and values.is_contiguous()
    kernel = cpu_kernel(f"{__name__}.cpu", "top_places") if fits else None
    if kernel is None:
        return reference.top_k(values, count)
    places = torch.empty(count, dtype=torch.int64)
    kernel(values.numpy(), places.numpy())
    return values[places], places
