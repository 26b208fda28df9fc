"""Dense causal attention of many new tokens at once, in PyTorch: the definition."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.kv_blocks import KVBlock
from kernels.page_attention.reference import soft_cap

_CAPPED_TOKENS = 256  # whose scores are held at a time


def causal_attention(
    query: Tensor, block: KVBlock, *, scale: float, window: int | None, cap: float | None = None
) -> Tensor:
    """Attend T new tokens to all cached ones up to themselves.

    Args:
        query: [R, H, T, D] fp32, rotated.
        block: keys and values [R, Hkv, S, D]; its last T tokens are the new ones.
        scale: factor on query·key.
        window: each token sees its last ``window`` tokens, itself included; None is all.
        cap: soft limit of scores.
    Returns: [R, H, T, D] in the keys' dtype.
    """
    new, cached = query.shape[2], block.keys.shape[2]
    heads_per_group = query.shape[1] // block.keys.shape[1]
    keys = block.keys.repeat_interleave(heads_per_group, dim=1)
    values = block.values.repeat_interleave(heads_per_group, dim=1)
    query = query.to(keys.dtype)
    whole = new == cached and (window is None or window >= cached) and cap is None
    if whole:
        return F.scaled_dot_product_attention(query, keys, values, is_causal=True, scale=scale)
    positions = torch.arange(cached, device=query.device)
    seen = positions[None] <= positions[cached - new :, None]
    if window is not None:
        seen &= positions[None] > positions[cached - new :, None] - window
    if cap is None:
        return F.scaled_dot_product_attention(query, keys, values, attn_mask=seen, scale=scale)
    pieces = zip(query.split(_CAPPED_TOKENS, 2), seen.split(_CAPPED_TOKENS), strict=True)
    return torch.cat([_capped(some, keys, values, mask, scale, cap) for some, mask in pieces], 2)


def _capped(
    query: Tensor, keys: Tensor, values: Tensor, seen: Tensor, scale: float, cap: float
) -> Tensor:
    """[R, H, T, D] of T tokens that see [T, S] bool."""
    scores = soft_cap(query.float() @ keys.float().mT * scale, cap)
    return scores.masked_fill(~seen, -torch.inf).softmax(-1).to(values.dtype) @ values
