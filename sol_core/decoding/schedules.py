"""Schedules of one row: functions from an observation to the action of the next decode step.

``FixedSchedule`` and ``StaticSchedule`` (neighbouring levels mixed evenly) ignore the model;
``RandomSchedule`` draws levels of the exact mean; ``SignalSchedule`` spends where a signal is high:
the previous step's entropy (EMC) or how far the hidden state moved (DAC), the heuristics that SOL
(arXiv:2605.10875, section 5) compares against.
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

MODULATION = 0.25  # how much of an axis' range one standard deviation of the signal moves


@dataclass(frozen=True, slots=True)
class Horizon:
    """Over how many steps a budget must be met: every episode, the last one cut short."""

    episode_steps: int  # steps per episode
    total_steps: int  # at most this many steps will run

    def steps_from(self, step: int) -> int:
        """Length of the episode that begins at ``step``, at least 1."""
        return max(1, min(self.episode_steps, self.total_steps - step))


class FixedSchedule:
    """A given list of actions; its last one repeats."""

    def __init__(self, actions: Sequence[Action]) -> None:
        self._actions = list(actions)

    def __call__(self, observation: StepObservation) -> Action:
        return self._actions[min(observation.step, len(self._actions) - 1)]


class AlternatingLevels:
    """The two levels around a target, mixed evenly over time."""

    def __init__(self, levels: Sequence[float], target: float) -> None:
        upper = min(bisect.bisect_left(levels, target - 1e-9), len(levels) - 1)
        self._high = self._low = float(levels[upper])
        self._weight = 1.0  # of the upper level
        if upper > 0 and abs(self._high - target) >= 1e-9:
            self._low = float(levels[upper - 1])
            self._weight = (target - self._low) / (self._high - self._low)

    def at(self, step: int) -> float:
        # Rounding the running count of the upper level spreads it evenly.
        due = math.floor((step + 1) * self._weight + 0.5)
        before = math.floor(step * self._weight + 0.5)
        return self._high if due > before else self._low


class StaticSchedule:
    """A constant budget: per axis the two neighbouring levels, mixed evenly over time.

    After any number of steps each axis' mean is as close to the target as its levels allow.

    Args:
        first_step: the mixing's count at step 0, to go on where another text ended.
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
        """The levels of a step; whatever is observed there, they are the same."""
        keep, channels, bits = [axis.at(step + self._first_step) for axis in self._axes]
        return Action.at(keep, channels, int(bits))


class RandomSchedule:
    """Uniformly drawn levels, repaired to the exact mean over every horizon.

    What the levels cannot express (less than one level step) is carried to the next
    horizon, so the mean stays exact however long the generation is.
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
        """The levels of the next step, whose number counts where an episode begins."""
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
    """Spends more where a signal is high, steered so that every horizon meets the budget.

    "entropy" (EMC) reads the previous step's uncertainty, "drift" (DAC) one minus the
    cosine between the last two hidden states. The signal is standardised by its running
    mean and deviation; one deviation moves each axis by a quarter of its range.
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
            # A prefix's own distribution is there only where another row asks for it.
            is_known = observation.entropy is not None and observation.step > 0
            return float(observation.entropy) if is_known else None  # type: ignore[arg-type]  # a tensor then
        previous, self._previous_hidden = self._previous_hidden, observation.hidden
        if previous is None or observation.hidden is None:
            return None
        return 1.0 - float(torch.cosine_similarity(previous, observation.hidden, dim=1))


class _SteeredAxis:
    """Turns wanted spends into levels whose mean over each horizon meets the target."""

    def __init__(self, levels: list[float], target: float) -> None:
        self._levels = levels
        self._target = target
        self._left = 0
        self._remaining = 0.0

    def spend(self, score: float, horizon_steps: int) -> float:
        """The next level; ``horizon_steps`` counts if a new horizon begins here."""
        if self._left == 0:
            self._left = horizon_steps
            self._remaining += self._target * horizon_steps
        low, high = self._levels[0], self._levels[-1]
        aim = self._remaining / self._left
        wanted = aim + MODULATION * (high - low) * score
        others = self._left - 1
        # The other steps of this horizon bound this one by the least and most that they can take.
        wanted = min(max(wanted, self._remaining - others * high), self._remaining - others * low)
        level = min(self._levels, key=lambda level: abs(level - wanted))
        self._left -= 1
        self._remaining -= level
        return level


class _RunningStatistics:
    """Welford's running mean and deviation."""

    def __init__(self) -> None:
        self._count = 0
        self._mean = 0.0
        self._squares = 0.0

    def score(self, value: float) -> float:
        """Standardise a value by those before it, within ±3, and add it to them."""
        score, delta = 0.0, value - self._mean
        if self._count > 1 and self._squares > 0:
            deviation = math.sqrt(self._squares / (self._count - 1))
            score = max(-3.0, min(3.0, delta / deviation))
        self._count += 1
        self._mean += delta / self._count
        self._squares += delta * (value - self._mean)
        return score
