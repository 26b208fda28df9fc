"""Measures the directions in which a model's final hidden states are large, over text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from sol_core.models import FrozenLM

NUM_DIRECTIONS = 32  # a block of the preview's channels
_PREFILL = 512  # tokens of a pass
_FIRST = 16  # tokens left out: a text's first ones have states of their own


def measure_directions(lm: FrozenLM, texts: Iterable[Sequence[int]]) -> Tensor:
    """The leading eigenvectors of final hidden states' second moments: [C, 32] float32.

    Args:
        texts: of different kinds; 512 tokens of one kind alone were a third as good.
    """
    moments = torch.zeros(lm.spec.hidden_size, lm.spec.hidden_size, dtype=torch.float64)
    for text in texts:
        seen = list(text[: lm.spec.max_positions])
        cache = lm.new_cache(1, len(seen))
        states = [
            lm.prefill(part, cache)[0]
            for part in torch.tensor([seen], device=lm.device).split(_PREFILL, 1)
        ]
        flat = torch.cat(states)[_FIRST:].double().cpu()
        moments += flat.T @ flat
    directions: Tensor = torch.linalg.eigh(moments).eigenvectors[:, -NUM_DIRECTIONS:].float()
    return directions
