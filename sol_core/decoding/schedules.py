"""Schedules of one row: functions from an observation to the action of the next decode step.

``FixedSchedule`` and ``StaticSchedule`` (two neighbouring levels, mixed evenly) ignore the model.
``RandomSchedule`` draws levels with an exact mean. ``SignalSchedule`` spends more where a signal is
high: entropy of the previous step (EMC) or drift of the hidden state (DAC), the heuristic baselines
of SOL (arXiv:2605.10875, section 5).
"""

from __future__ import annotations

import bisect
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sol_core.actions import AXES, Action, ActionGrid, Budget
from sol_core.decoding.batch_scheduling import StepObservation
from sol_core.errors import ConfigError

MODULATION = 0.25  # fraction of an axis's range per standard deviation of the signal


@dataclass(frozen=True, slots=True)
class Horizon:
    """Steps over which a budget must be met: each episode, the last of which is cut short."""

    episode_steps: int  # steps per episode
    total_steps: int  # upper bound of the steps that run

    def steps_from(self, step: int) -> int:
        """Length of the episode that begins at ``step``, at least 1."""
        return max(1, min(self.episode_steps, self.total_steps - step))


class FixedSchedule:
    """Takes actions from a list; the last one repeats."""

    def __init__(self, actions: Sequence[Action]) -> None:
        self._actions = list(actions)

    def __call__(self, observation: StepObservation) -> Action:
        return self._actions[min(observation.step, len(self._actions) - 1)]


class AlternatingLevels:
    """Mixes the two levels around a target evenly over time."""

    def __init__(self, levels: Sequence[float], target: float) -> None:
        upper = min(bisect.bisect_left(levels, target - 1e-9), len(levels) - 1)
        self._high = self._low = float(levels[upper])
        self._weight = 1.0  # of the upper level
        if upper > 0 and abs(self._high - target) >= 1e-9:
            self._low = float(levels[upper - 1])
            self._weight = (target - self._low) / (self._high - self._low)

    def at(self, step: int) -> float:
        # Rounding the cumulative count of the upper level spreads it evenly.
        due = math.floor((step + 1) * self._weight + 0.5)
        before = math.floor(step * self._weight + 0.5)
        return self._high if due > before else self._low


class StaticSchedule:
    """Spends a constant budget: per axis the two levels around it, mixed evenly over time.

    After any number of steps the mean of each axis is as close to the target as levels allow.

    Args:
        first_step: offset of the step count, to continue the mixing of an earlier text.
    """

    def __init__(self, budget: Budget, grid: ActionGrid, *, first_step: int = 0) -> None:
        grid.check_budget(budget)
        if budget.bytes_share is not None:
            raise ConfigError(f"static takes a budget per axis here, got {budget.words}")
        self._first_step = first_step
        self._axes = [*map(AlternatingLevels, grid.levels(), budget.as_tuple())]

    def __call__(self, observation: StepObservation) -> Action:
        return self.at(observation.step)

    def at(self, step: int) -> Action:
        """Return the action of a step, which depends on nothing else."""
        keep, channels, bits = [axis.at(step + self._first_step) for axis in self._axes]
        return Action.at(keep, channels, int(bits))


class RandomSchedule:
    """Draws levels uniformly, then moves some of them so that every horizon meets the mean.

    A remainder smaller than the distance of two levels is carried to the next horizon, so the mean
    stays exact for any length.
    """

    def __init__(self, budget: Budget, grid: ActionGrid, *, seed: int, horizon: Horizon) -> None:
        grid.check_budget(budget)
        self._levels = grid.levels()
        self._targets = budget.as_tuple()
        self._horizon = horizon
        self._random = random.Random(seed)
        self._carry = [0.0] * len(AXES)
        self._plan: list[Action] = []

    def __call__(self, observation: StepObservation) -> Action:
        return self.next(observation.step)

    def next(self, step: int) -> Action:
        """Return the next action; ``step`` matters only where an episode begins."""
        if not self._plan:
            steps = self._horizon.steps_from(step)
            axes = [self._draw(axis, steps) for axis in range(len(AXES))]
            self._plan = [Action.of(values) for values in zip(*axes, strict=True)]
        return self._plan.pop(0)

    def _draw(self, axis: int, steps: int) -> list[float]:
        levels = self._levels[axis]
        due = self._targets[axis] * steps + self._carry[axis]
        chosen = [self._random.randrange(len(levels)) for _ in range(steps)]
        gap = due - sum(levels[i] for i in chosen)
        while True:
            direction = 1 if gap > 0 else -1
            movable = [
                step
                for step, index in enumerate(chosen)
                if 0 <= index + direction < len(levels)
                and abs(gap - (levels[index + direction] - levels[index])) < abs(gap) - 1e-9
            ]
            if not movable:
                break
            step = self._random.choice(movable)
            gap -= levels[chosen[step] + direction] - levels[chosen[step]]
            chosen[step] += direction
        self._carry[axis] = gap
        return [float(levels[index]) for index in chosen]


class SignalSchedule:
    """Spends more where a signal is high, and meets the budget over every horizon.

    "entropy" (EMC) is the entropy of the previous step, "drift" (DAC) one minus the cosine between
    the last two hidden states. The signal is standardised by its running mean and deviation; one
    standard deviation moves each axis by ``MODULATION`` of its range.
    """

    def __init__(
        self,
        signal: Literal["entropy", "drift"],
        budget: Budget,
        grid: ActionGrid,
        *,
        horizon: Horizon,
    ) -> None:
        grid.check_budget(budget)
        self._signal = signal
        self._horizon = horizon
        self._steered = [
            _SteeredAxis([float(level) for level in levels], target)
            for levels, target in zip(grid.levels(), budget.as_tuple(), strict=True)
        ]
        self._statistics = _RunningStatistics()
        self._previous_hidden: Tensor | None = None

    def __call__(self, observation: StepObservation) -> Action:
        value = self._read(observation)
        score = 0.0 if value is None else self._statistics.score(value)
        steps = self._horizon.steps_from(observation.step)
        return Action.of([axis.spend(score, steps) for axis in self._steered])

    def _read(self, observation: StepObservation) -> float | None:
        if self._signal == "entropy":
            # Step 0 has an entropy only if another row observes the prefix: ignore it.
            is_known = observation.entropy is not None and observation.step > 0
            return float(observation.entropy) if is_known else None  # type: ignore[arg-type]  # a tensor then
        previous, self._previous_hidden = self._previous_hidden, observation.hidden
        if previous is None or observation.hidden is None:
            return None
        return 1.0 - float(torch.cosine_similarity(previous, observation.hidden, dim=1))


class _SteeredAxis:
    """Rounds the desired spend to levels whose mean over each horizon meets the target."""

    def __init__(self, levels: list[float], target: float) -> None:
        self._levels = levels
        self._target = target
        self._left = 0
        self._remaining = 0.0

    def spend(self, score: float, horizon_steps: int) -> float:
        """Return the next level; ``horizon_steps`` is used only where a horizon begins."""
        if self._left == 0:
            self._left = horizon_steps
            self._remaining += self._target * horizon_steps
        low, high = self._levels[0], self._levels[-1]
        aim = self._remaining / self._left
        wanted = aim + MODULATION * (high - low) * score
        others = self._left - 1
        # Leave between the least and the most that the remaining steps of the horizon can spend.
        wanted = min(max(wanted, self._remaining - others * high), self._remaining - others * low)
        level = min(self._levels, key=lambda level: abs(level - wanted))
        self._left -= 1
        self._remaining -= level
        return level


class _RunningStatistics:
    """Running mean and deviation (Welford)."""

    def __init__(self) -> None:
        self._count = 0
        self._mean = 0.0
        self._squares = 0.0

    def score(self, value: float) -> float:
        """Standardise a value by the values before it, clipped to ±3, then include it."""
        score, delta = 0.0, value - self._mean
        if self._count > 1 and self._squares > 0:
            deviation = math.sqrt(self._squares / (self._count - 1))
            score = max(-3.0, min(3.0, delta / deviation))
        self._count += 1
        self._mean += delta / self._count
        self._squares += delta * (value - self._mean)
        return score
