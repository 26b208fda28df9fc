"""The MLP's input and its inner activation are pruned; the ratio is the share of its bytes."""

from __future__ import annotations

from bisect import bisect_left
from functools import lru_cache

from kernels.mlp_pruners.pruner import MlpPruner, Split, heaviest

# Share of the MLP's bytes → share of its input channels: the split with the least measured KL.
MEASURED_SPLIT = (
    (0.3, 0.36),
    (0.4, 0.46),
    (0.5, 0.56),
    (0.6, 0.685),
    (0.7, 0.785),
    (0.8, 0.865),
    (0.9, 0.95),
    (1.0, 1.0),
)


@lru_cache(maxsize=1024)
def _shares(ratio: float, split: Split) -> tuple[float, float]:
    """The input's share counts twice (gate and up), so that the two make the ratio of the bytes."""
    share = _interpolated(split, ratio)
    # The inner share that is left must be above 0 and at most 1.
    lowest, highest = (3 * ratio - 1) / 2, (3 * ratio - 0.02) / 2
    share = min(max(share, lowest, 0.01), highest, 1.0)
    return share, 3 * ratio - 2 * share


def _interpolated(knots: Split, at: float) -> float:
    """A piecewise linear curve through knots (x, y), its ends prolonged."""
    right = min(max(bisect_left(knots, (at, 0.0)), 1), len(knots) - 1)
    (x0, y0), (x1, y1) = knots[right - 1], knots[right]
    return y0 + (y1 - y0) * (at - x0) / (x1 - x0)


BOTH = MlpPruner(
    name="both",
    label="Input and inner channels",
    meaning="inner ones too",
    unit="MLP bytes",
    shares=_shares,
    ratio=lambda of_bytes: of_bytes,
    split=MEASURED_SPLIT,
    keep_inner=heaviest,
    fused=True,
)
