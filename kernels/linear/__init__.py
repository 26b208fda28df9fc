"""Matrix products of the decoder: many rows go to torch, a few bf16 rows on a CPU to Numba."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor

__all__ = ["FEW_ROWS", "few_rows_threads", "linear"]

FEW_ROWS = 4  # up to here the product is bound by reading the weights; measured, see cpu.py
_log = logging.getLogger(__name__)


def linear(inputs: Tensor, weight: Tensor) -> Tensor:
    """``inputs @ weight``, with fp32 accumulation.

    Args:
        inputs: [..., in], any float dtype; rounded to the weight's dtype where torch computes.
        weight: [in, out].
    Returns: [..., out], in the weight's dtype from torch, in fp32 from the CPU kernel.
    """
    kernel = _kernel_for(inputs.shape[0], weight) if inputs.dim() == 2 else None
    if kernel is None:
        return inputs.to(weight.dtype) @ weight
    outputs = torch.empty(inputs.shape[0], weight.shape[1])
    kernel(
        inputs.detach().float().contiguous().numpy(),
        weight.detach().t().view(torch.uint16).numpy(),
        outputs.numpy(),
    )
    return outputs


@contextlib.contextmanager
def few_rows_threads(num_rows: int, weight: Tensor) -> Iterator[None]:
    """Keep torch to one thread while the CPU kernel has the cores.

    The kernel's OpenMP threads wait by spinning, and torch brings a pool of its own: both
    at two threads on two cores made a decode step 22 to 60 ms long instead of 23.
    """
    threads = torch.get_num_threads()
    if threads == 1 or _kernel_for(num_rows, weight) is None:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _kernel_for(num_rows: int, weight: Tensor) -> Callable[[Any, Any, Any], None] | None:
    fits = (
        num_rows <= FEW_ROWS
        and weight.dtype == torch.bfloat16
        and weight.device.type == "cpu"
        and weight.stride(0) == 1
    )
    return _cpu_kernel() if fits else None


@cache
def _cpu_kernel() -> Callable[[Any, Any, Any], None] | None:
    """The Numba kernel, or None (with one logged reason) where it cannot run safely."""
    try:
        import numba

        # The work-queue layer aborts the process when two threads enter it; OpenMP does not.
        numba.config.THREADING_LAYER = "omp"  # type: ignore[attr-defined]  # set at run time
        from kernels.linear.cpu import bf16_rows_product

        probe = torch.ones(1, 16)
        result = torch.empty(1, 1)
        weight = torch.ones(1, 16, dtype=torch.bfloat16)
        bf16_rows_product(probe.numpy(), weight.view(torch.uint16).numpy(), result.numpy())
    except (ImportError, ValueError, OSError, RuntimeError) as error:
        _log.warning("CPU kernel for bf16 rows is off, torch is used instead: %s", error)
        return None
    return bf16_rows_product if result.item() == 16.0 else None
