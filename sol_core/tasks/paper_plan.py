"""The paper's mechanisms at another static schedule's bytes.

Attention and bits keep their levels; what is moved is the MLP's share, most of a step's bytes.
The paper's mechanisms cut only the MLP's input, two of its three matrices, so equal bytes take a
lower channel ratio than the paper's grid has: levels go down to a twentieth.

Where budgets are shares, attention is lowered first, down to a tenth, then channels. The paper's
heads choose their pages one by one, so that a group reads more tokens than an action allows; how
many more is told by a trial.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sol_core.actions import ActionGrid, Budget
from sol_core.comparing.paths import PAPER_CHANNEL_LEVELS
from sol_core.decoding.cost import CostModel
from sol_core.decoding.step_bytes import StepBytes
from sol_core.models import FrozenLM
from sol_core.tasks.encoding import Continuation

PLACES = 32  # lengths that a mean over all steps is read off


def paper_budget(
    spend: Budget,
    target: float,
    lm: FrozenLM,
    grid: ActionGrid,
    continuations: Sequence[Continuation],
) -> Budget:
    """The budget whose steps read ``target`` bytes each in the mean; the nearest there is.

    Args:
        spend: of the schedule that read them; attention and bits are taken from it.
        grid: as ``paths.paper_grid`` gives it.
    """
    lowest, highest = PAPER_CHANNEL_LEVELS[0], PAPER_CHANNEL_LEVELS[-1]
    cached = _cached(continuations)
    step_bytes = StepBytes(CostModel.of(lm, grid))

    def reading(ratio: float) -> float:
        """Mean over all steps; attention's levels are mixed evenly, as static does."""
        levels = np.asarray(grid.keep_fractions)
        above = int(np.clip(np.searchsorted(levels, spend.keep_fraction), 1, len(levels) - 1))
        low, high = levels[above - 1], levels[above]
        step = replace(spend, channel_keep_ratio=ratio)
        share = (spend.keep_fraction - low) / (high - low)
        parts = [
            np.mean([step_bytes.of(at, count) for count in cached])
            for at in (replace(step, keep_fraction=level) for level in (low, high))
        ]
        return float((1 - share) * parts[0] + share * parts[1])

    # Bytes are linear in the ratio, but for the rounding of channels.
    least, most = reading(lowest), reading(highest)
    ratio = lowest + (target - least) / (most - least) * (highest - lowest)
    return replace(spend, channel_keep_ratio=min(max(ratio, lowest), highest))


class PaperReading:
    """Mean computed bytes of the steps of some continuations under the paper's mechanisms."""

    def __init__(
        self, lm: FrozenLM, grid: ActionGrid, continuations: Sequence[Continuation]
    ) -> None:
        self._bytes = StepBytes(CostModel.of(lm, grid))
        places = np.linspace(0, 1, PLACES)
        self._cached = [int(count) for count in np.quantile(_cached(continuations), places)]

    def of(self, budget: Budget) -> float:
        """By what an action allows."""
        return float(np.mean([self._bytes.of(budget, count) for count in self._cached]))


def _cached(continuations: Sequence[Continuation]) -> list[int]:
    """Tokens that each step attends over."""
    return [
        len(continuation.context) + step
        for continuation in continuations
        for step in range(len(continuation.tokens))
    ]
