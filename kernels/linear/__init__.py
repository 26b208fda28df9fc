"""Matrix products of the decoder: many rows go to torch, a few bf16 rows on a CPU to Numba.

oneDNN otherwise rearranges bf16 weights in every product, for a batch of rows a third of its time
(``docs/decisions.md``): ``pack_weight`` does that once. The operators are those that torch's own
compiler uses for frozen weights; where this build of torch lacks them, or the CPU lacks bf16,
nothing is packed.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor

from kernels.cpu.threads import cpu_kernel, torch_on_one_thread, torch_with_numba

_log = logging.getLogger(__name__)
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


def pack_weight(weight: Tensor, num_rows: int) -> Tensor | None:
    """A copy of ``weight`` for ``packed_product``, or None where packing is not possible.

    Args:
        weight: [in, out].
        num_rows: how many rows the products will have, a hint.
    Returns: opaque; about as large as the weight.
    """
    fits = weight.device.type == "cpu" and weight.dtype == torch.bfloat16
    return _rearranged(weight, num_rows) if fits and _packs() else None


@cache
def _packs() -> bool:
    """Return whether this CPU and this torch can pack; tried once, a failure logged once."""
    try:
        if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            return False
        probe = torch.ones(4, 4, dtype=torch.bfloat16)
        packed_product(probe, _rearranged(probe, 4), None)
    except (AttributeError, RuntimeError) as error:
        _log.warning("weights are not packed, products of many rows take longer: %s", error)
        return False
    return True


def _rearranged(weight: Tensor, num_rows: int) -> Tensor:
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.t(), num_rows)
    return packed


def packed_product(inputs: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    """``inputs @ weight + bias`` in bf16: inputs [..., in], any float dtype → [..., out]."""
    product: Tensor = torch.ops.mkldnn._linear_pointwise(
        inputs.to(torch.bfloat16), packed, bias, "none", [], ""
    )
    return product
