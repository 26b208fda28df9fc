"""The baselines at matched spend, as rows of a rollout.

Static and random schedules are planned, and run on through all rollouts, so that the mean is exact;
EMC and DAC keep steering and statistics, one scheduler per slot of the batch. Under the paper's
mechanisms a share of the bytes is a point of the path ``attention_first``: attention down to a
tenth first, then channels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import cast

import numpy as np

from sol_core.actions import PAPER, Action, ActionGrid, Budget
from sol_core.budgets.building import build_schedule
from sol_core.config import ScheduleConfig, ScheduleKind
from sol_core.decoding.batch_scheduling import (
    BatchScheduler,
    RowSchedules,
    Schedule,
    StepObservation,
)
from sol_core.decoding.schedules import (
    FixedSchedule,
    Horizon,
    RandomSchedule,
    SignalSchedule,
    StaticSchedule,
)
from sol_core.evaluation.rollout import Floats

Part = tuple[list[tuple[int, int]], BatchScheduler]  # rows and their scheduler
Corners = tuple[tuple[float, float], ...]  # (keep fraction, channel keep ratio), from dense down
BISECTIONS = 40
TRIALS = 2  # of the paper's static on one batch
# The paper's mechanisms cut only the MLP's input: equal bytes take ratios below other grids'.
PAPER_CHANNEL_LEVELS = tuple(round(i / 20, 2) for i in range(1, 21))


def read_beyond(count: int, trial: Callable[[Floats], tuple[Floats, Floats]]) -> Floats:
    """Shares that the paper's heads, which choose alone, read beyond their actions: [count]."""
    beyond: Floats = np.zeros(count)
    for _ in range(TRIALS):
        read, allowed = trial(beyond)
        beyond = read - allowed
    return beyond


def paper_grid(grid: ActionGrid) -> ActionGrid:
    """Another grid's levels of attention and bits, with the paper's mechanisms."""
    mechanisms = asdict(PAPER) | {"quant_site": grid.quant_site}
    return replace(grid, channel_keep_ratios=PAPER_CHANNEL_LEVELS, **mechanisms)


def attention_first(grid: ActionGrid) -> Corners:
    """The paper's axes one after the other, none below the grid's lowest level."""
    keep, ratio = max(0.1, grid.keep_fractions[0]), grid.channel_keep_ratios[0]
    return (1.0, 1.0), (keep, 1.0), (keep, ratio)


def budget_on_path(
    corners: Corners, bits: float, target: float, reading: Callable[[Budget], float]
) -> Budget:
    """The budget on a path that reads as much as wanted; an end of the path where none does."""
    low, high = 0.0, float(len(corners) - 1)  # target lies between their readings
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if reading(_at(corners, middle, bits)) > target else (low, middle)
        )
    return _at(corners, high, bits)


def _at(corners: Corners, point: float, bits: float) -> Budget:
    axes = zip(*corners, strict=True)
    keep, ratio = (float(np.interp(point, range(len(corners)), levels)) for levels in axes)
    return Budget(keep, ratio, bits)


@dataclass(frozen=True, slots=True)
class Row:
    method: str  # policy, policy:NAME, static, random, emc, dac or paper
    budget: int  # index of the requested budget
    index: int = 0  # which of the random schedules


def baseline_rows(num_budgets: int, num_random: int, signals: Sequence[str]) -> list[Row]:
    """Every baseline row of a rollout, dense aside, budget after budget."""
    counts = {"static": 1, "random": num_random} | dict.fromkeys(signals, 1)
    return [
        Row(method, budget, index)
        for budget in range(num_budgets)
        for method, count in counts.items()
        for index in range(count)
    ]


def row_by_row(
    rows: Sequence[Row], count: int, scheduler: Callable[[Row, int], Schedule]
) -> list[Part]:
    """Make a scheduler for each row in each slot of a batch, which takes a rollout."""
    slots = list(product(range(count), range(len(rows))))
    return [(slots, RowSchedules([scheduler(rows[number], slot) for slot, number in slots]))]


class BaselineRows:
    """The schedulers behind baseline rows; they live as long as the evaluation."""

    def __init__(
        self, spends: Sequence[Budget], grid: ActionGrid, horizon: Horizon, *, seed: int
    ) -> None:
        self._spends, self._grid, self._horizon, self._seed = spends, grid, horizon, seed
        self._planners: dict[Row, RandomSchedule] = {}
        self._signals: dict[tuple[Row, int], SignalSchedule] = {}  # by row and slot

    def parts(self, rows: Sequence[Row], first: int, count: int) -> list[Part]:
        """Schedulers for rollouts ``first`` …; call in the order of the texts."""
        return row_by_row(rows, count, lambda row, slot: self._scheduler(row, first, slot))

    def steering(self) -> Floats:
        """[schedules, numbers] fp64: where the signal-driven schedules stand."""
        states = [scheduler.state() for scheduler in self._signals.values()]
        size = SignalSchedule.state_size()
        return np.asarray(states, dtype=np.float64).reshape(len(states), size)

    def steer(self, states: Floats) -> None:
        """Put them back to where ``steering`` found them, after the same calls of ``parts``."""
        for scheduler, state in zip(self._signals.values(), states.tolist(), strict=True):
            scheduler.go_on_from(state)

    def _scheduler(self, row: Row, first: int, slot: int) -> Schedule:
        steps = self._horizon.total_steps
        if row.method == "static":  # mixes levels by the number of the step
            first_step = (first + slot) * steps
            return StaticSchedule(self._spends[row.budget], self._grid, first_step=first_step)
        if row.method == "random":  # plans every rollout alone
            if row not in self._planners:
                self._planners[row] = cast(RandomSchedule, self._build(row))
            return FixedSchedule([self._planners[row].next(step) for step in range(steps)])
        if (row, slot) not in self._signals:
            self._signals[row, slot] = cast(SignalSchedule, self._build(row))
        return restarted(self._signals[row, slot])

    def _build(self, row: Row) -> Schedule:
        seed = derive_seed(self._seed, "random", row.budget, row.index)
        config = ScheduleConfig(cast(ScheduleKind, row.method), self._spends[row.budget], seed)
        return build_schedule(config, self._grid, horizon=self._horizon)


def restarted(scheduler: SignalSchedule) -> Schedule:
    """Make a schedule that goes on with another rollout at step 0."""

    def act(observation: StepObservation) -> Action:
        if observation.step == 0:
            # The hidden state before belongs to another rollout: no drift can be read from it.
            observation = StepObservation.unseen(0, observation.cached_tokens[0])
        return scheduler(observation)

    return act


def derive_seed(*parts: object) -> int:
    """A seed of its own for everything random, below 2^63."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
