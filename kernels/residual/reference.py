"""The residual stream between two halves of a layer, and its root-mean-square norm
(arXiv:1910.07467), in plain PyTorch: the definition."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Residual(NamedTuple):
    """The stream before it enters attention or MLP."""

    hidden: Tensor  # [R, C] fp32
    update: Tensor | None = None  # [R, C] of any float dtype, what the half before adds
    norm: Tensor | None = None  # [C] fp32, weights of the RMS norm, if any
    epsilon: float = 0.0  # of the norm


def rms_norm(hidden: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """``hidden / sqrt(mean(hidden²) + epsilon) · weight`` over the last axis.

    Args:
        hidden: [..., C].
        weight: [C], same dtype.
    Returns: as hidden.
    """
    return F.rms_norm(hidden, (weight.shape[-1],), weight, epsilon)


def add_and_norm(
    residual: Residual,
    dtype: torch.dtype = torch.float32,
    norm: Callable[[Tensor, Tensor, float], Tensor] = rms_norm,
) -> tuple[Tensor, Tensor]:
    """The stream with its update [R, C] fp32, and that normalised, [R, C] of a dtype."""
    hidden = residual.hidden if residual.update is None else residual.hidden + residual.update
    normed = hidden if residual.norm is None else norm(hidden, residual.norm, residual.epsilon)
    return hidden, normed.to(dtype)
