"""KL of a step to the dense one, as training, evaluation and the page use it."""

from __future__ import annotations

import torch
from torch import Tensor


def kl_to_dense(dense: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
    """KL(dense ‖ row) of every row that feeds the same token.

    KL = Σ p·log p − Σ p·log q with the dense p: a product instead of passes over copies of
    [B, G, V]. Its rounding error is about 1e-5 nats, so a row that equals the dense one need not
    come out as exactly 0.

    Args:
        dense: [B, V] fp32 log probabilities.
        given: [B, G, V] fp32 log probabilities.
    Returns: KL [B, G], at least 0, and the dense step's entropy [B]; fp32, nats.
    """
    probability = dense.exp()
    negative_entropy = torch.linalg.vecdot(probability, dense)
    expected = (given @ probability[:, :, None])[..., 0]
    return (negative_entropy[:, None] - expected).clamp(min=0), -negative_entropy
