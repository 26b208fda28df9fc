"""The largest few of a vector, in plain PyTorch: the definition."""

from __future__ import annotations

from torch import Tensor


def top_k(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """[N] → the largest ``count`` numbers, in falling order, and their places, int64.

    Of equal numbers the first comes first.
    """
    numbers, places = values.sort(descending=True, stable=True)
    return numbers[:count], places[:count]
