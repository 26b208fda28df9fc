"""Log probabilities and their entropy, in plain PyTorch: the definition."""

from __future__ import annotations

import torch
from torch import Tensor


def log_softmax_and_entropy(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Logits [R, V] fp32 → log probabilities [R, V] and their entropy [R], fp32, nats."""
    log_probabilities = torch.log_softmax(logits, dim=-1)
    negative: Tensor = torch.linalg.vecdot(log_probabilities.exp(), log_probabilities)
    return log_probabilities, -negative
