"""Compares methods over texts by paired bootstrap intervals; rank correlation.

All methods score the same texts, so differences are taken per text. All comparisons use the same
resamples and are therefore antisymmetric: A over B is exactly the negative of B over A.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sol_core.reporting.verdict import Interval

Values = NDArray[np.float64]
NUM_RESAMPLES = 2000
CONFIDENCE = 0.95


class PairedBootstrap:
    """Percentile bootstrap over texts, with the same resamples for every call."""

    def __init__(self, num_texts: int, *, seed: int) -> None:
        random = np.random.default_rng(seed)
        counts = random.multinomial(
            num_texts, np.full(num_texts, 1.0 / num_texts), size=NUM_RESAMPLES
        )
        self._weights = (counts / num_texts).astype(np.float32)  # [resamples, N]

    def interval(self, values: Values) -> Interval:
        """Return the mean of values [N], one per text, with its 95 % interval."""
        mean = float(values.mean())
        # Deviations are small, so fp32 weights lose nothing.
        deviations = self._weights @ (values - mean).astype(np.float32)
        tail = (1.0 - CONFIDENCE) / 2
        low, high = np.quantile(mean + deviations.astype(np.float64), [tail, 1.0 - tail])
        return Interval(mean, min(float(low), mean), max(float(high), mean))


def rank_correlation(left: Values, right: Values) -> float:
    """Return Spearman's correlation; 0 if either side is constant."""
    first, second = (ranks - ranks.mean() for ranks in map(_ranks, (left, right)))
    scale = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float((first * second).sum()) / scale if scale > 0 else 0.0


def _ranks(values: Values) -> Values:
    """Rank values from 0; equal values get their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    means = ends - (counts + 1) / 2
    return np.asarray(means[inverse.reshape(-1)], dtype=np.float64)
