"""Root-mean-square norm (arXiv:1910.07467), in plain PyTorch: the definition."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def rms_norm(hidden: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """``hidden / sqrt(mean(hidden²) + epsilon) · weight`` over the last axis.

    Args:
        hidden: [..., C].
        weight: [C], same dtype.
    Returns: as hidden.
    """
    return F.rms_norm(hidden, (weight.shape[-1],), weight, epsilon)
