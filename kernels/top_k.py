"""The largest few of a vector, such as the most probable tokens."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def top_k(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The largest few numbers, in falling order, and their indices; of equal ones the first.

    A look for each on a CPU, where torch's own takes 1.3 ms of a vocabulary of 49,000.

    Args:
        values: [N] fp32, no NaN; N at least ``count``.
    Returns: [count] fp32, and int64.
    """
    if values.device.type == "cpu":
        left, indices = values.detach().numpy().copy(), np.empty(count, np.int64)
        for rank in range(count):
            indices[rank] = left.argmax()
            if left[indices[rank]] == -np.inf:  # of which those that were taken are some
                break
            left[indices[rank]] = -np.inf
        else:
            chosen = torch.from_numpy(indices)
            return values[chosen], chosen
    ranked, order = values.sort(descending=True, stable=True)
    return ranked[:count], order[:count]
