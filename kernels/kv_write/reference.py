"""One new token per row, rotated and stored in a KV cache, in plain PyTorch: the definition."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from kernels.key_codes import OCTET, encode_keys


class NewTokens(NamedTuple):
    """Heads of one new token per row, as a layer projects them."""

    heads: Tensor  # [R, H + 2 Hkv, D] of any float dtype: queries, keys, values
    cosine: Tensor  # cosine, sine: [R, D] fp32, rotation of queries and keys
    sine: Tensor  # likewise
    scale: float  # of the queries


def rotate(heads: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotate channel d with channel d + D/2 (RoFormer, arXiv:2104.09864; Llama's convention).

    Args:
        heads: [..., D] fp32.
        cosine, sine: broadcast against it, both halves alike.
    Returns: as heads.
    """
    first, second = heads.chunk(2, dim=-1)
    return torch.addcmul(heads * cosine, torch.cat((-second, first), dim=-1), sine)


def write_token(buffer: Tensor, new: Tensor, slots: Tensor) -> None:
    """buffer[r, :, slots[r]] = new[r], rounded to the buffer's dtype.

    Args:
        buffer: [R, Hkv, S, D], changed.
        new: [R, Hkv, D].
        slots: [R] int64, below S.
    """
    rows = torch.arange(buffer.shape[0], device=buffer.device)
    buffer[rows, :, slots] = new.to(buffer.dtype)


def extend_codes(codes: Tensor, scales: Tensor, new: Tensor, slots: Tensor) -> None:
    """Write the 4-bit copy of each row's new key among those of its slot's octet.

    Args:
        codes: [R, Hkv, O, D / 8, 8, 4] uint8, scales: [R, Hkv, O, 2, 8] bf16; changed.
        new: [R, Hkv, D], in the cache's dtype.
        slots: [R] int64.
    """
    rows = torch.arange(new.shape[0], device=new.device)
    octets, tokens = slots // OCTET, slots % OCTET
    made = encode_keys(new[:, :, None].expand(-1, -1, OCTET, -1))
    codes[rows, :, octets, :, tokens] = made[0][:, :, 0, :, 0]
    scales[rows, :, octets, :, tokens] = made[1][:, :, 0, :, 0]
