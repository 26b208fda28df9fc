"""Static once more, at the bytes that another schedule really read.

So no schedule wins by overspending.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sol_core.actions import ActionGrid, Budget
from sol_core.comparing.methods import place_on
from sol_core.config import GenerationConfig, ScheduleConfig
from sol_core.decoding.cost import CostModel, StepBytes
from sol_core.decoding.loop import DecodeOptions, PrefixState
from sol_core.decoding.teacher_forcing import teacher_forced
from sol_core.errors import ConfigError
from sol_core.events import StepCost
from sol_core.generation.schedules import GenerationSchedules
from sol_core.inspection.records import InspectionConfig, MatchedStatic, RowTotals
from sol_core.models.cache import KVCache
from sol_core.models.loading import LanguageModel

MATCHED_SHARE = 0.01  # of the dense bytes; rows that differ by less spent the same


def budget_of_bytes(
    step_bytes: StepBytes, grid: ActionGrid, near: Budget, context: int, num_bytes: float
) -> Budget:
    """The budget per axis that reads ``num_bytes`` a step.

    Attention and channels move together, from ``near`` towards their highest or lowest levels;
    bits stay, since no byte depends on them.

    Args:
        context: tokens that the step attends over, its own included.
        num_bytes: wanted; where no level reaches it, the nearest budget is returned.
    """
    keeps, ratios, _ = grid.levels()
    middle = near.keep_fraction, near.channel_keep_ratio
    corners = (keeps[-1], ratios[-1]), middle, (keeps[0], ratios[0])
    return place_on(corners, near.bit_width, num_bytes, lambda at: step_bytes.of(at, context))


@dataclass(frozen=True, slots=True)
class StaticAgain:
    """Scores static on an inspected text at the bytes of other rows."""

    model: LanguageModel
    config: InspectionConfig
    path: Sequence[int]  # the tokens to feed, and one more to score
    cache: KVCache  # the densely read prefix
    state: PrefixState | None  # of its last token

    def beside(
        self, totals: Sequence[RowTotals], should_stop: Callable[[], bool]
    ) -> tuple[MatchedStatic, ...]:
        """Static at the bytes of each row that read more or less than it.

        Args:
            totals: of all rows, dense first.
        """
        dense, static = totals[0], next(row for row in totals if row.name == "static")
        matched = []
        for row in totals[1:]:
            gap = row.cost.bytes_read - static.cost.bytes_read
            if abs(gap) <= MATCHED_SHARE * dense.cost.bytes_read:
                continue
            try:
                again = self._at(row, self._budget(row, dense), should_stop)
            except ConfigError:  # at the first step: no mix reads so few bytes
                continue
            if again is None:
                break
            matched.append(again)
        return tuple(matched)

    def _budget(self, row: RowTotals, dense: RowTotals) -> Budget:
        asked = next(row.budget for row in self.config.schedules if row.kind == "static")
        if asked.bytes_share is not None:
            share = min(row.cost.bytes_read / dense.cost.bytes_read, 1.0)
            return Budget.share(share, asked.bit_width)
        grid, steps = self.config.grid, len(self.path) - 1
        context, num_bytes = self.cache.lengths[0] + 1 + steps // 2, row.cost.bytes_read / steps
        step_bytes = StepBytes(CostModel.of(self.model.lm, grid))
        return budget_of_bytes(step_bytes, grid, row.spend, context, num_bytes)

    def _at(
        self, row: RowTotals, budget: Budget, should_stop: Callable[[], bool]
    ) -> MatchedStatic | None:
        """Static at a budget; None if it was stopped."""
        grid, steps = self.config.grid, len(self.path) - 1
        schedule, episode = ScheduleConfig("static", budget), self.config.episode_steps
        config = GenerationConfig(schedule, grid=grid, episode_steps=episode)
        schedules = GenerationSchedules(self.model, config, Path)
        scheduler, options = schedules.build(steps), DecodeOptions(steps, grid.mechanisms)
        nll, cost = [], StepCost()
        for scored in teacher_forced(
            self.model.lm, self.cache, [self.path], scheduler, options, self.state
        ):
            cost += schedules.step_cost(scored.step)
            nll.append(float(scored.nll))
            if should_stop():
                return None
        return MatchedStatic(row.name, budget, tuple(nll), cost)
