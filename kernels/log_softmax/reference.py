"""Log probabilities and their entropy, in plain PyTorch: the definition."""

from __future__ import annotations

import torch
from torch import Tensor


def log_softmax_and_entropy(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Logits [R, V] fp32 → log probabilities [R, V] and their entropy [R], fp32, nats."""
    log_probabilities = torch.log_softmax(logits, dim=-1)
    negative: Tensor = torch.linalg.vecdot(log_probabilities.exp(), log_probabilities)
    return log_probabilities, -negative


def kl_to_dense(dense: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
    """KL(dense ‖ row) of every row that feeds the same token.

    Args:
        dense: [B, V] fp32 log probabilities.
        given: [B, G, V] fp32 log probabilities.
    Returns: KL [B, G], at least 0, and the dense step's entropy [B]; fp32, nats.
    """
    probability = dense.exp()
    negative_entropy = torch.linalg.vecdot(probability, dense)
    expected = (given @ probability[:, :, None])[..., 0]
    return (negative_entropy[:, None] - expected).clamp(min=0), -negative_entropy
