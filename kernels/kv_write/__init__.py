"""One new token per row in a KV cache: queries rotated, keys and values stored, and what scores
pages kept up to date."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from kernels.cpu import as_array, takes_bf16
from kernels.cpu.threads import MANY_ROWS, cpu_kernel, torch_with_numba
from kernels.gpu import triton_support as gpu
from kernels.key_codes import OCTET
from kernels.kv_write import reference
from kernels.kv_write.reference import NewTokens

__all__ = ["NewTokens", "rotate_and_write", "rotated", "write_tokens"]

Pair = tuple[Tensor, Tensor]
_NO_CODES = np.empty((0, 0), np.uint8), np.empty((0, 0), np.uint16)


def rotated(
    heads: Tensor, num_kv_heads: int, cosine: Tensor, sine: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Rotated queries [..., H, D] and keys [..., Hkv, D], fp32, and values likewise, as they are;
    on a CPU a bf16 prefill's and those of many rows go to Numba.

    Args:
        heads: [R, H + 2 Hkv, D] or [R, T, H + 2 Hkv, D] of any float dtype.
        cosine, sine: [R, D] or [T, D] fp32.
    """
    count = heads.shape[-2] - num_kv_heads
    is_step = heads.dim() == 3 and heads.shape[0] >= MANY_ROWS
    in_fp32 = heads.device.type == "cpu" and heads.dtype == torch.float32
    fits = (is_step and in_fp32) or ((is_step or heads.dim() == 4) and takes_bf16(heads))
    kernel = cpu_kernel(f"{__name__}.cpu", "rotate_rows") if fits else None
    if kernel is None:
        turned = reference.rotate(heads[..., :count, :].float(), cosine[:, None], sine[:, None])
    else:
        tokens = as_array(heads.contiguous().flatten(0, -3))
        turned = torch.empty(*heads.shape[:-2], count, heads.shape[-1])
        angles = cosine.contiguous().numpy(), sine.contiguous().numpy()
        with torch_with_numba():
            kernel(tokens, *angles, turned.flatten(0, -3).numpy())
    query, key = turned.split((count - num_kv_heads, num_kv_heads), -2)
    return query, key, heads[..., count:, :]


def rotate_and_write(
    new: NewTokens, buffers: Pair, slots: Tensor, codes: Pair | None = None
) -> Tensor:
    """Rotated and scaled queries [R, H, D] fp32; keys and values are stored as ``write_tokens``
    does. One kernel on CUDA."""
    operation = "rotate_and_write", buffers[0], rotate_and_write_with_triton
    made = gpu.by_kernels(*operation, new, buffers, slots, codes)
    if made is not None:
        return made
    query, key, value = rotated(new.heads, buffers[0].shape[1], new.cosine, new.sine)
    write_tokens((key, value), buffers, slots, codes)
    return query * new.scale


def write_tokens(new: Pair, buffers: Pair, slots: Tensor, codes: Pair | None = None) -> None:
    """Store each row's new key and value at its slot; many rows on a CPU go to Numba.

    Args:
        new: keys and values [R, Hkv, D].
        buffers: keys and values [R, Hkv, S, D], contiguous, changed.
        slots: [R] int64.
        codes: 4-bit keys and their scales [R, Hkv, S / 8, …] (``kernels/key_codes``) that are
            current and stay so by taking the new keys in; None to leave them.
    """
    dtype = buffers[0].dtype
    new = (new[0].to(dtype), new[1].to(dtype))
    known = dtype in (torch.float32, torch.bfloat16) and slots.device.type == "cpu"
    many = known and slots.shape[0] >= MANY_ROWS
    kernel = cpu_kernel(f"{__name__}.cpu", "write_rows") if many else None
    if kernel is not None:
        arrays = [tuple(as_array(part.contiguous()) for part in pair) for pair in (new, buffers)]
        lines: Any = _NO_CODES
        if codes is not None:  # an octet a row
            lines = tuple(as_array(part.flatten(0, 2).flatten(1)) for part in codes)
        kernel(*arrays, lines, slots.numpy())
        return
    if codes is not None:
        reference.extend_codes(*codes, new[0], slots)
    for buffer, tokens in zip(buffers, new, strict=True):
        reference.write_token(buffer, tokens, slots)


def rotate_and_write_with_triton(
    new: NewTokens, buffers: Pair, slots: Tensor, codes: Pair | None
) -> Tensor:
    """``rotate_and_write``. Raises: UnsupportedByKernel or KernelInputError for what is refused."""
    from kernels.kv_write.triton_kernel import rotate_and_write_rows

    keys, values = buffers
    fits = keys.dim() == 4 and keys.dtype in gpu.KERNEL_DTYPES and keys.shape[-1] % 8 == 0
    lines = "buffers must be [R, Hkv, S, D] fp32, bf16 or fp16 with D a multiple of 8"
    gpu.require(fits, lines, keys)
    fits = new.heads.dim() == 3 and new.heads.dtype in gpu.KERNEL_DTYPES
    gpu.require(fits, "heads must be [R, N, D] fp32, bf16 or fp16", new.heads)
    rows, kv_heads, capacity, size = keys.shape
    octets = (rows, kv_heads, -(-capacity // OCTET))
    pair = codes or (None, None)
    gpu.check_operands(
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
    num_heads = new.heads.shape[1] - 2 * kv_heads
    query = torch.empty((rows, num_heads, size), device=keys.device)
    key_codes, scales = codes or (keys.view(torch.uint8), keys.view(torch.bfloat16))
    gpu.launch(
        rotate_and_write_rows,
        (rows, num_heads + kv_heads),
        {
            "heads": new.heads.contiguous(), "cosine": new.cosine, "sine": new.sine,
            "query": query, "keys": keys, "values": values, "codes": key_codes, "scales": scales,
            "slots": slots, "num_heads": num_heads, "num_kv_heads": kv_heads, "head_size": size,
            "capacity": capacity, "num_octets": key_codes.shape[2] if codes else 0,
            "scale": new.scale,
        },
        {"HEAD": max(64, gpu.next_power_of_2(size))},
        num_warps=1,
    )  # fmt: skip
    return query
