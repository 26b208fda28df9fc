"""Magnitude pruning, token by token, of the MLP's input, in plain PyTorch: the definition.

SOL (arXiv:2605.10875) keeps the ``ceil(ρ·C)`` channels of largest magnitude of the
normalised MLP input and zeroes the rest, so that only the kept channels' rows of the
gate and up matrices need be read. Exactly k survive; ties go to the lowest channel.
"""

from __future__ import annotations

import torch
from torch import Tensor


def keep_largest_channels(hidden: Tensor, channels_kept: Tensor) -> Tensor:
    """Zero all but the largest-magnitude channels of each row.

    Args:
        hidden: [R, C], any float dtype.
        channels_kept: [R] int64 in [1, C].
    Returns: [R, C] in hidden's dtype; rows with ``channels_kept == C`` are bit-identical.
    """
    magnitude = hidden.abs()
    ranked = magnitude.sort(dim=-1, descending=True).values
    threshold = ranked.gather(-1, (channels_kept - 1)[:, None])
    above = magnitude > threshold
    tied = magnitude == threshold
    room = channels_kept[:, None] - above.sum(-1, keepdim=True)
    return torch.where(above | (tied & (tied.cumsum(-1) <= room)), hidden, 0)


def keep_heaviest_channels(inner: Tensor, norms: Tensor, channels_kept: Tensor) -> Tensor:
    """Zero all but the channels of each row that add most to a product: largest |inner · norm|.

    Args:
        inner: [R, I], any float dtype.
        norms: [I] fp32, Euclidean norms of the next matrix's rows.
        channels_kept: [R] int64 in [1, I].
    Returns: [R, I] in inner's dtype.
    """
    weights = keep_largest_channels(inner.float() * norms, channels_kept)
    return torch.where(weights != 0, inner, 0)
