"""Checks and launches the Triton kernel that stores one new token per row."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.gpu.triton_support import (
    KERNEL_DTYPES,
    KernelInputError,
    UnsupportedByKernel,
    check_beside,
    launch,
    next_power_of_2,
    runs_triton,
    supported,
)
from kernels.key_codes import OCTET

Pair = tuple[Tensor, Tensor]


def triton_fits(new: Pair, buffers: Pair, bounds: Pair | None, codes: Pair | None) -> bool:
    """Return whether the kernel runs here and takes these; what only torch takes is logged.

    Raises: KernelInputError for arguments that are wrong for both.
    """
    return runs_triton(buffers[0]) and supported(
        "write_tokens", lambda: _check(new, buffers, bounds or buffers, codes)
    )


def store_rows(
    new: Pair,
    buffers: Pair,
    bounds: Pair | None,
    codes: Pair | None,
    slots: Tensor,
    page_size: int,
) -> None:
    """``write_tokens`` where ``triton_fits``."""
    from kernels.kv_write.triton_kernel import write_rows

    new_keys, new_values = new
    keys, values = buffers
    page_min, page_max = bounds or buffers  # a page size of 0 leaves them alone
    _check_slots(slots, keys)
    if bounds is not None and page_min.shape[2] * page_size < keys.shape[2]:
        raise KernelInputError(
            f"page_size must be at least {keys.shape[2]} / {page_min.shape[2]} (slots / pages), "
            f"got {page_size}"
        )
    if new_keys.stride() != new_values.stride() or new_keys.stride(2) != 1:
        new_keys, new_values = new_keys.contiguous(), new_values.contiguous()
    rows, heads, capacity, size = keys.shape
    spare = (keys.view(torch.uint8), keys.view(torch.bfloat16))
    key_codes, scales = codes or spare
    launch(
        write_rows,
        (rows, heads),
        {
            "new_keys": new_keys, "new_values": new_values, "keys": keys, "values": values,
            "page_min": page_min, "page_max": page_max, "codes": key_codes, "scales": scales,
            "slots": slots,
            "num_heads": heads, "head_size": size, "capacity": capacity,
            "num_pages": page_min.shape[2], "page_size": page_size if bounds else 0,
            "num_octets": key_codes.shape[2] if codes else 0,
            "row_stride": new_keys.stride(0), "head_stride": new_keys.stride(1),
        },
        {"HEAD": max(64, next_power_of_2(size))},
        {"num_warps": 1, "num_stages": 1},
    )  # fmt: skip


def _check_slots(slots: Tensor, keys: Tensor) -> None:
    check_beside("slots", slots, keys)
    rows = keys.shape[0]
    if slots.shape != (rows,) or slots.dtype != torch.int64 or not slots.is_contiguous():
        raise KernelInputError(
            f"slots must be contiguous [{rows}] int64, got {list(slots.shape)} {slots.dtype}"
        )


def _check(new: Pair, buffers: Pair, bounds: Pair, codes: Pair | None) -> None:
    keys = buffers[0]
    if keys.dim() != 4 or keys.dtype not in KERNEL_DTYPES or keys.shape[-1] % 8:
        raise UnsupportedByKernel(
            "buffers must be [R, Hkv, S, D] fp32, bf16 or fp16 with D a multiple of 8, "
            f"got {list(keys.shape)} {keys.dtype}"
        )
    if new[0].dtype not in KERNEL_DTYPES:
        raise UnsupportedByKernel(f"new keys must be fp32, bf16 or fp16, got {new[0].dtype}")
    rows, heads, _, size = keys.shape
    for name, tensor in zip(("new keys", "new values"), new, strict=True):
        check_beside(name, tensor, keys)
        if tensor.shape != (rows, heads, size) or tensor.dtype != new[0].dtype:
            raise KernelInputError(
                f"{name} must be [{rows}, {heads}, {size}] {new[0].dtype}, "
                f"got {list(tensor.shape)} {tensor.dtype}"
            )
    names = ("keys", "values", "page_min", "page_max")
    for name, tensor in zip(names, (*buffers, *bounds), strict=True):
        check_beside(name, tensor, keys)
        fits = tensor.dtype == keys.dtype and tensor.shape[:2] == (rows, heads)
        if not (fits and tensor.shape[3] == size and tensor.is_contiguous()):
            raise KernelInputError(
                f"{name} must be contiguous [{rows}, {heads}, …, {size}] {keys.dtype}, "
                f"got {list(tensor.shape)} {tensor.dtype}"
            )
    if codes is not None:
        _check_codes(codes, keys)


def _check_codes(codes: Pair, keys: Tensor) -> None:
    rows, heads, capacity, size = keys.shape
    octets = (rows, heads, -(-capacity // OCTET))
    wanted = {
        "codes": (codes[0], (*octets, size // 8, 8, 4), torch.uint8),
        "scales": (codes[1], (*octets, 2, OCTET), torch.bfloat16),
    }
    for name, (tensor, shape, dtype) in wanted.items():
        check_beside(name, tensor, keys)
        if tensor.shape != shape or tensor.dtype != dtype or not tensor.is_contiguous():
            raise KernelInputError(
                f"{name} must be contiguous {list(shape)} {dtype}, "
                f"got {list(tensor.shape)} {tensor.dtype}"
            )
