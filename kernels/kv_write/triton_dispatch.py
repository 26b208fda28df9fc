"""Checks and launches the Triton kernel that rotates and stores one new token per row."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.gpu.triton_support import (
    KERNEL_DTYPES,
    UnsupportedByKernel,
    check_operands,
    launch,
    next_power_of_2,
    runs_triton,
    supported,
)
from kernels.key_codes import OCTET
from kernels.kv_write.reference import NewTokens

Pair = tuple[Tensor, Tensor]


def triton_fits(new: NewTokens, buffers: Pair, slots: Tensor, codes: Pair | None) -> bool:
    """Return whether the kernel runs here and takes these; what only torch takes is logged.

    Raises: KernelInputError for arguments that are wrong for both.
    """
    return runs_triton(buffers[0]) and supported(
        "rotate_and_write", lambda: _check(new, buffers, slots, codes)
    )


def rotate_and_write_with_triton(
    new: NewTokens, buffers: Pair, slots: Tensor, codes: Pair | None
) -> Tensor:
    """As ``reference.rotate_and_write``, where ``triton_fits``."""
    from kernels.kv_write.triton_kernel import rotate_and_write_rows

    keys, values = buffers
    rows, kv_heads, capacity, size = keys.shape
    num_heads = new.heads.shape[1] - 2 * kv_heads
    query = torch.empty((rows, num_heads, size), device=keys.device)
    spare = (keys.view(torch.uint8), keys.view(torch.bfloat16))
    key_codes, scales = codes or spare
    launch(
        rotate_and_write_rows,
        (rows, num_heads + kv_heads),
        {
            "heads": new.heads.contiguous(), "cosine": new.cosine, "sine": new.sine,
            "query": query, "keys": keys, "values": values, "codes": key_codes, "scales": scales,
            "slots": slots, "num_heads": num_heads, "num_kv_heads": kv_heads, "head_size": size,
            "capacity": capacity, "num_octets": key_codes.shape[2] if codes else 0,
            "scale": new.scale,
        },
        {"HEAD": max(64, next_power_of_2(size))},
        {"num_warps": 1, "num_stages": 1},
    )  # fmt: skip
    return query


def _check(new: NewTokens, buffers: Pair, slots: Tensor, codes: Pair | None) -> None:
    keys, values = buffers
    if keys.dim() != 4 or keys.dtype not in KERNEL_DTYPES or keys.shape[-1] % 8:
        raise UnsupportedByKernel(
            "buffers must be [R, Hkv, S, D] fp32, bf16 or fp16 with D a multiple of 8, "
            f"got {list(keys.shape)} {keys.dtype}"
        )
    if new.heads.dim() != 3 or new.heads.dtype not in KERNEL_DTYPES:
        raise UnsupportedByKernel(
            "heads must be [R, N, D] fp32, bf16 or fp16, "
            f"got {list(new.heads.shape)} {new.heads.dtype}"
        )
    rows, kv_heads, capacity, size = keys.shape
    octets = (rows, kv_heads, -(-capacity // OCTET))
    pair = codes or (None, None)
    check_operands(
        {
            "heads": (new.heads, (rows, new.heads.shape[1], size), new.heads.dtype),
            "cosine": (new.cosine, (rows, size), torch.float32),
            "sine": (new.sine, (rows, size), torch.float32),
            "keys": (keys, tuple(keys.shape), keys.dtype),
            "values": (values, tuple(keys.shape), keys.dtype),
            "slots": (slots, (rows,), torch.int64),
            "codes": (pair[0], (*octets, size // 8, 8, 4), torch.uint8),
            "scales": (pair[1], (*octets, 2, OCTET), torch.bfloat16),
        },
        keys,
    )
