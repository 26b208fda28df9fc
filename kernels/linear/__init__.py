"""Matrix products of the decoder: many rows go to torch, a few bf16 rows on a CPU to Numba."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from kernels.cpu.threads import cpu_kernel, torch_on_one_thread, torch_with_numba

__all__ = ["FEW_ROWS", "linear", "step_threads"]

FEW_ROWS = 4  # up to here the product is bound by reading the weights; measured, see cpu.py


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
def step_threads(num_rows: int, weight: Tensor) -> Iterator[None]:
    """Share the cores between torch and Numba for one decode step.

    A step whose products the CPU kernel computes gets them alone; any other step on a
    CPU runs Numba's smaller kernels on torch's threads.
    """
    if weight.device.type != "cpu":
        yield
        return
    few = _kernel_for(num_rows, weight) is not None
    with torch_on_one_thread() if few else torch_with_numba():
        yield


def _kernel_for(num_rows: int, weight: Tensor) -> Callable[[Any, Any, Any], None] | None:
    fits = (
        num_rows <= FEW_ROWS
        and weight.dtype == torch.bfloat16
        and weight.device.type == "cpu"
        and weight.stride(0) == 1
    )
    return cpu_kernel(f"{__name__}.cpu", "bf16_rows_product") if fits else None
