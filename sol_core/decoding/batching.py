"""Turns left-padded batches, as tokenizers make them for generation, into ours."""

from __future__ import annotations

import torch
from torch import Tensor

from sol_core.errors import ShapeError


def align_left(tokens: Tensor, attention_mask: Tensor) -> tuple[Tensor, list[int]]:
    """Shift each row's tokens to the front, so that positions count from 0.

    Args:
        tokens: [R, T] int64, padding on the left (or right).
        attention_mask: [R, T], nonzero at tokens; they must be contiguous.
    Returns: [R, T] with padding on the right, and each row's number of tokens.
    """
    mask = attention_mask.bool()
    if mask.shape != tokens.shape:
        raise ShapeError(f"attention_mask must be {tuple(tokens.shape)}, got {tuple(mask.shape)}")
    lengths = mask.sum(-1)
    if not bool(lengths.all()):
        raise ShapeError("a row of attention_mask has no token")
    order = torch.argsort(~mask, dim=-1, stable=True)
    aligned = tokens.gather(-1, order)
    return aligned, lengths.tolist()
