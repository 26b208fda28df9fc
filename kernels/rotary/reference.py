"""Rotary position embedding (RoFormer, arXiv:2104.09864), in plain PyTorch: the definition."""

from __future__ import annotations

import torch
from torch import Tensor


def rotate(heads: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotate channel d with channel d + D/2 (Llama's convention).

    Args:
        heads: [..., D] fp32.
        cosine, sine: broadcast against it, both halves alike.
    Returns: as heads.
    """
    first, second = heads.chunk(2, dim=-1)
    return torch.addcmul(heads * cosine, torch.cat((-second, first), dim=-1), sine)
