"""Activation quantisation at any bit width, with a scale per token or per block of channels."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.activation_quantisation import reference
from kernels.cpu.threads import cpu_kernel
from kernels.gpu import triton_support as gpu
from kernels.residual import Dropping, Residual, prepare_with_triton

__all__ = ["fake_quantise"]


def fake_quantise(activations: Tensor, bit_widths: Tensor, block: int = 0) -> Tensor:
    """``reference.fake_quantise``, bit for bit; CUDA goes to Triton, a CPU to Numba."""
    given = activations, bit_widths, block
    made = gpu.by_kernels("fake_quantise", activations, quantise_rows, *given)
    if made is not None:
        return made
    on_cpu = activations.device.type == "cpu"
    kernel = cpu_kernel(f"{__name__}.cpu", "fake_quantise_rows") if on_cpu else None
    if kernel is None:
        return reference.fake_quantise(activations, bit_widths, block)
    values = activations.float().contiguous()
    rounded = torch.empty_like(values)
    kernel(values.numpy(), bit_widths.numpy(), block, rounded.numpy())
    return rounded.to(activations.dtype)


def quantise_rows(activations: Tensor, bit_widths: Tensor, block: int = 0) -> Tensor:
    """``reference.fake_quantise``. Raises: as ``check_rows``."""
    gpu.check_rows(activations)
    widths = bit_widths, (activations.shape[0],), torch.int64
    gpu.check_operands({"bit_widths": widths}, activations)
    rows, how = Residual(activations.contiguous()), Dropping(None, bit_widths, block)
    prepared: Tensor = prepare_with_triton(rows, activations.dtype, how)["prepared"]
    return prepared
