"""Storing one new token per row in a KV cache, with page bounds or 4-bit keys."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from kernels.cpu.arrays import as_array
from kernels.cpu.threads import MANY_ROWS, cpu_kernel
from kernels.gpu.triton_support import runs_triton
from kernels.kv_write import reference
from kernels.kv_write.triton_dispatch import store_rows, triton_fits

__all__ = ["one_launch", "write_tokens"]

Pair = tuple[Tensor, Tensor]
_NO_CODES = np.empty((0, 0), np.uint8), np.empty((0, 0), np.uint16)


def one_launch(buffer: Tensor, num_rows: int) -> bool:
    """Return whether ``write_tokens`` is one kernel for these rows, and beats slices if uniform."""
    return runs_triton(buffer) or num_rows >= MANY_ROWS


def write_tokens(
    new: Pair,
    buffers: Pair,
    bounds: Pair | None,
    slots: Tensor,
    page_size: int,
    codes: Pair | None = None,
) -> None:
    """Store each row's new key and value at its slot.

    CUDA goes to Triton, many rows on a CPU to Numba.

    Args:
        new: keys and values [R, Hkv, D].
        buffers: keys and values [R, Hkv, S, D], contiguous, changed.
        bounds: page minima and maxima [R, Hkv, P, D] that are current and stay so by
            taking the new keys in; None to leave them.
        slots: [R] int64.
        page_size: tokens per page.
        codes: 4-bit keys and their scales [R, Hkv, S / 8, …] (``kernels/key_codes``) that are
            current and stay so by taking the new keys in; None to leave them.
    """
    if triton_fits(new, buffers, bounds, codes):
        store_rows(new, buffers, bounds, codes, slots, page_size)
        return
    dtype = buffers[0].dtype
    new = (new[0].to(dtype), new[1].to(dtype))
    fits = (
        slots.shape[0] >= MANY_ROWS
        and slots.device.type == "cpu"
        and dtype in (torch.float32, torch.bfloat16)
    )
    kernel = cpu_kernel(f"{__name__}.cpu", "write_rows") if fits else None
    if kernel is not None:
        arrays = [_arrays(pair) for pair in (new, buffers, bounds or buffers)]
        pages = page_size if bounds is not None else 0
        kernel(*arrays, _NO_CODES if codes is None else _lines(codes), slots.numpy(), pages)
        return
    if codes is not None:
        reference.extend_codes(*codes, new[0], slots)
    for buffer, tokens in zip(buffers, new, strict=True):
        reference.write_token(buffer, tokens, slots)
    if bounds is not None:
        reference.extend_bounds(*bounds, buffers[0], slots, page_size)


def _lines(codes: Pair) -> tuple[Any, Any]:
    """4-bit keys and their scales with an octet a row."""
    numbers, scales = codes[0].flatten(0, 2).flatten(1), codes[1].flatten(0, 2).flatten(1)
    return as_array(numbers), as_array(scales)


def _arrays(pair: Pair) -> tuple[Any, Any]:
    return as_array(pair[0].contiguous()), as_array(pair[1].contiguous())
