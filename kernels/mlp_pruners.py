"""Ways to choose the MLP's channels that are dropped: a record for each, and the table of them.

Importing this brings in no torch: forms and command lines list the names.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

Split = tuple[tuple[float, float], ...]

# Fraction of the MLP's bytes → of its input channels: the split with the least measured KL.
MEASURED_SPLIT = (
    (0.3, 0.36), (0.4, 0.46), (0.5, 0.56), (0.6, 0.685), (0.7, 0.785), (0.8, 0.865), (0.9, 0.95),
    (1.0, 1.0),
)  # fmt: skip


def largest(normed: Tensor, kept: Tensor) -> Tensor:
    """Keep the channels of largest magnitude, as the fused kernels choose them."""
    from kernels.channel_pruning import keep_largest_channels

    return keep_largest_channels(normed, kept)


def heaviest(inner: Tensor, norms: Tensor, kept: Tensor) -> Tensor:
    """Keep the channels that add most to the output, as the fused kernels choose them."""
    from kernels.channel_pruning import keep_heaviest_channels

    return keep_heaviest_channels(inner, norms, kept)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class MlpPruner:
    """A way to prune the MLP's input and the channels between its projections.

    FLOPs and bytes follow from the fractions: of the three matrices, gate and up have a row for
    each input channel, down one for each inner channel.
    """

    name: str  # in grids, policies and results
    label: str = ""  # in forms
    meaning: str = ""  # in forms, goes on a sentence
    unit: str = "MLP bytes"  # of which the action's ratio is a fraction
    # (ratio below 1, the grid's split) → fractions of the input channels and of the inner channels
    # that are kept, each above 0 and at most 1.
    fractions: Callable[[float, Split], tuple[float, float]]
    ratio: Callable[[float], float]  # that reads a fraction of the MLP's bytes, the inverse
    split: Split = ()  # knots that a grid has unless it brings its own; () where it takes none
    # (rows [R, C], how many channels each keeps [R]) → rows with the others zeroed.
    keep_input: Callable[[Tensor, Tensor], Tensor] = largest
    # (rows [R, I], norms of down's rows [I], how many [R]) → rows with the others zeroed; None
    # where the inner fraction is always 1.
    keep_inner: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
    fused: bool = False  # whether kernels that do a whole MLP choose the same channels

    def __str__(self) -> str:
        return self.name


@lru_cache(maxsize=1024)
def _both_fractions(ratio: float, split: Split) -> tuple[float, float]:
    """Fractions of input and inner channels; the former counts twice (gate and up) in the ratio."""
    entering = _interpolated(split, ratio)
    # The inner fraction that is left must be above 0 and at most 1.
    lowest, highest = (3 * ratio - 1) / 2, (3 * ratio - 0.02) / 2
    entering = min(max(entering, lowest, 0.01), highest, 1.0)
    return entering, 3 * ratio - 2 * entering


def _interpolated(knots: Split, at: float) -> float:
    """A piecewise linear curve through knots (x, y), its ends prolonged."""
    right = min(max(bisect_left(knots, (at, 0.0)), 1), len(knots) - 1)
    (x0, y0), (x1, y1) = knots[right - 1], knots[right]
    return y0 + (y1 - y0) * (at - x0) / (x1 - x0)


# The MLP's input loses its smallest channels, as in the paper (arXiv:2605.10875).
INPUT = MlpPruner(
    name="input",
    label="Input channels",
    meaning="input ones",
    unit="MLP inputs",
    fractions=lambda ratio, split: (ratio, 1.0),
    # The third matrix is read whole.
    ratio=lambda of_bytes: (3 * of_bytes - 1) / 2,
    fused=True,
)
# Input and inner activation are pruned; the ratio is the fraction of the MLP's bytes.
BOTH = MlpPruner(
    name="both",
    label="Input and inner channels",
    meaning="inner ones too",
    unit="MLP bytes",
    fractions=_both_fractions,
    ratio=lambda of_bytes: of_bytes,
    split=MEASURED_SPLIT,
    keep_inner=heaviest,
    fused=True,
)
MLP_PRUNERS = {pruner.name: pruner for pruner in (INPUT, BOTH)}
