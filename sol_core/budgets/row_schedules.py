"""Builds the schedule of one row from its configuration, for either kind of budget.

At a share of the dense bytes, static is ``ShareSchedule``: at every step the mix with the least
measured damage at the share and context. Schedules that spend unevenly get that mix as their budget
per axis. ``Feedback`` keeps the mean spend of these schedules and of policies at its target.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np

from sol_core.actions import DENSE, Action, ActionGrid, Budget
from sol_core.config import ScheduleConfig
from sol_core.decoding.batch_scheduling import (
    UNKNOWN_READS,
    Schedule,
    StepObservation,
    fresh_schedule,
    takes_budget,
)
from sol_core.decoding.schedules import (
    AlternatingLevels,
    FixedSchedule,
    Horizon,
    RandomSchedule,
    SignalSchedule,
    StaticSchedule,
)
from sol_core.errors import ConfigError

if TYPE_CHECKING:
    from sol_core.budgets.mixes import MixTable

RECOVERY_STEPS = 8  # over which ``ShareSchedule`` compensates a deviation of its mean


class Feedback:
    """Adjusts the next step's targets so that mean spends meet them; arrays or tensors.

    Schedules spend unevenly on purpose, so an excess is compensated slowly, over ``steps``; the
    part of it beyond ``slack``, over ``sooner_steps``.
    """

    def __init__(
        self, targets: Any, steps: float, *, slack: float = inf, sooner_steps: float = 1.0
    ) -> None:
        self.targets, self.excess = targets, 0 * targets  # cumulative
        self._steps, self._slack, self._sooner_steps = steps, slack, sooner_steps

    def next_targets(self) -> Any:
        beyond = self.excess - self.excess.clip(-self._slack, self._slack)
        return self.targets - self.excess / self._steps - beyond / self._sooner_steps

    def add(self, spent: Any) -> None:
        """Record the spend of a step."""
        self.excess = self.excess + (spent - self.targets)


class ShareSchedule:
    """Alternates between two neighbouring mixes, so that the mean share is met."""

    def __init__(self, budget: Budget, grid: ActionGrid, mixes: MixTable) -> None:
        assert budget.bytes_share is not None
        grid.check_budget(budget)
        self._feedback = Feedback(np.float64(budget.bytes_share), RECOVERY_STEPS)
        self._mixes = mixes
        self._bits = AlternatingLevels(grid.bit_widths, budget.bit_width)
        self._previous: tuple[Action, int] | None = None

    def __call__(self, observation: StepObservation) -> Action:
        context = observation.cached_tokens[0] + 1
        feedback = self._feedback
        if self._previous is None:
            self._mixes.check(feedback.targets, context)
        else:
            reads = observation.reads or (UNKNOWN_READS,)
            feedback.add(self._mixes.costs.bytes_share(*self._previous, reads[0]))
        bits = int(self._bits.at(observation.step))
        low, high = self._mixes.neighbours(feedback.next_targets(), context, bits)
        settling_share = feedback.targets - feedback.excess  # would bring the mean to its target
        is_high = abs(high.share - settling_share) <= abs(low.share - settling_share)
        action = (high if is_high else low).action
        action = Action.at(action.keep_fraction, action.channel_keep_ratio, bits)
        self._previous = action, context
        return action


class MeanOfMixes:
    """Runs the schedule that ``make`` returns for the mean spend of step 0's mixes."""

    def __init__(self, make: Callable[[Budget], Schedule], budget: Budget, mixes: MixTable) -> None:
        self._make, self._budget, self._mixes = make, budget, mixes
        self._schedule: Schedule | None = None

    def __call__(self, observation: StepObservation) -> Action:
        if self._schedule is None:
            context = observation.cached_tokens[0] + 1
            self._schedule = self._make(self._mixes.budget_per_axis(self._budget, context))
        return self._schedule(observation)


def build_schedule(
    config: ScheduleConfig, grid: ActionGrid, *, horizon: Horizon, mixes: MixTable | None = None
) -> Schedule:
    budget = config.budget
    if config.kind not in ("dense", "policy", "painted") and budget.bytes_share is not None:
        return _build_by_share(config, grid, horizon, mixes)
    match config.kind:
        case "dense":
            return FixedSchedule((DENSE,))
        case "static":
            return StaticSchedule(budget, grid)
        case "random":
            return RandomSchedule(budget, grid, seed=config.seed, horizon=horizon)
        case "emc":
            return SignalSchedule("entropy", budget, grid, horizon=horizon)
        case "dac":
            return SignalSchedule("drift", budget, grid, horizon=horizon)
        case "painted":
            return FixedSchedule(config.painted)
        case "policy":
            raise ConfigError("a policy schedules many rows at once; see policy/scheduler.py")


def _build_by_share(
    config: ScheduleConfig, grid: ActionGrid, horizon: Horizon, mixes: MixTable | None
) -> Schedule:
    """Build the schedule for a share of the bytes."""
    if mixes is None:
        raise ConfigError(f"{config.kind} takes a budget per axis here, got {config.budget.words}")
    if config.kind == "static":
        return ShareSchedule(config.budget, grid, mixes)

    def make(budget: Budget) -> Schedule:
        return build_schedule(dataclasses.replace(config, budget=budget), grid, horizon=horizon)

    return MeanOfMixes(make, config.budget, mixes)


def schedule_for_sequence(
    given: Schedule, budget: Budget | None, mixes: MixTable | None, *, copies: bool = True
) -> Schedule:
    """Make a caller's schedule for one sequence; see ``fresh_schedule``.

    At a share of the bytes, its budget is the mean spend of the best mixes at its first step.
    """
    if mixes is None or budget is None or budget.bytes_share is None or not takes_budget(given):
        return fresh_schedule(given, budget, copies=copies)
    return MeanOfMixes(lambda mean: fresh_schedule(given, mean, copies=copies), budget, mixes)
