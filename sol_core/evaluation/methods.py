"""The baselines at matched spend, as rows of a rollout.

Static and random schedules are planned, and run on through all rollouts, so that the mean is exact;
EMC and DAC keep steering and statistics, one scheduler per place in the batch. Under the paper's
mechanisms a share of the bytes is a place on ``attention_first``: attention down to a tenth first,
then channels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
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
    """The paper's axes one after the other."""
    return _within(grid, ((1.0, 1.0), (0.1, 1.0), (0.1, 0.0)))


def place_on(
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


def _at(corners: Corners, place: float, bits: float) -> Budget:
    first = min(int(place), len(corners) - 2)
    rest = place - first
    pairs = zip(corners[first], corners[first + 1], strict=True)
    keep, ratio = (a + (b - a) * rest for a, b in pairs)
    return Budget(keep, ratio, bits)


def _within(grid: ActionGrid, corners: Corners) -> Corners:
    """The corners, none below the grid's lowest levels."""
    keep, ratio = grid.keep_fractions[0], grid.channel_keep_ratios[0]
    return tuple((max(corner[0], keep), max(corner[1], ratio)) for corner in corners)


@dataclass(frozen=True, slots=True)
class Row:
    method: str  # policy, policy:NAME, policy_sampled, static, random, emc, dac or paper
    budget: int  # index of the requested budget
    index: int = 0  # which of the random schedules


def baseline_rows(num_budgets: int, num_random: int, signals: Sequence[str]) -> list[Row]:
    """Every baseline row of a rollout, dense aside, budget after budget."""
    return [
        Row(method, budget, index)
        for budget in range(num_budgets)
        for method, count in (
            ("static", 1),
            ("random", num_random),
            *((signal, 1) for signal in signals),
        )
        for index in range(count)
    ]


def row_by_row(
    rows: Sequence[Row], count: int, scheduler: Callable[[Row, int], Schedule]
) -> list[Part]:
    """A scheduler for each row of each of a batch's rollouts, by the rollout's place in it."""
    placed = [(place, number) for place in range(count) for number in range(len(rows))]
    made = RowSchedules([scheduler(rows[number], place) for place, number in placed])
    return [(placed, made)]


class BaselineRows:
    """The schedulers behind baseline rows; they live as long as the evaluation."""

    def __init__(
        self, spends: Sequence[Budget], grid: ActionGrid, horizon: Horizon, *, seed: int
    ) -> None:
        self._spends, self._grid, self._horizon, self._seed = spends, grid, horizon, seed
        self._planners: dict[Row, RandomSchedule] = {}
        self._restarted: dict[tuple[Row, int], RestartedSchedule] = {}

    def parts(self, rows: Sequence[Row], first: int, count: int) -> list[Part]:
        """Schedulers for rollouts ``first`` …; call in the order of the texts."""
        return row_by_row(rows, count, lambda row, place: self._scheduler(row, first, place))

    def steering(self) -> Floats:
        """[schedules, numbers] fp64: where the signal-driven schedules stand."""
        states = [restarted.scheduler.state() for restarted in self._restarted.values()]
        size = SignalSchedule.state_size()
        return np.asarray(states, dtype=np.float64).reshape(len(states), size)

    def steer(self, states: Floats) -> None:
        """Put them back to where ``steering`` found them, after the same calls of ``parts``."""
        for restarted, state in zip(self._restarted.values(), states.tolist(), strict=True):
            restarted.scheduler.go_on_from(state)

    def _scheduler(self, row: Row, first: int, place: int) -> Schedule:
        steps = self._horizon.total_steps
        if row.method == "static":  # mixes levels by the number of the step
            first_step = (first + place) * steps
            return StaticSchedule(self._spends[row.budget], self._grid, first_step=first_step)
        if row.method == "random":  # plans every rollout alone
            if row not in self._planners:
                planner = self._build(row)
                assert isinstance(planner, RandomSchedule)
                self._planners[row] = planner
            return FixedSchedule([self._planners[row].next(step) for step in range(steps)])
        if (row, place) not in self._restarted:
            scheduler = self._build(row)
            assert isinstance(scheduler, SignalSchedule)
            self._restarted[row, place] = RestartedSchedule(scheduler)
        return self._restarted[row, place]

    def _build(self, row: Row) -> Schedule:
        seed = derive_seed(self._seed, "random", row.budget, row.index)
        kind = cast(ScheduleKind, row.method)
        config = ScheduleConfig(kind, self._spends[row.budget], seed)
        return build_schedule(config, self._grid, horizon=self._horizon)


class RestartedSchedule:
    """A signal scheduler that goes on with another rollout at step 0."""

    def __init__(self, scheduler: SignalSchedule) -> None:
        self.scheduler = scheduler

    def __call__(self, observation: StepObservation) -> Action:
        if observation.step == 0:
            # The hidden state before belongs to another rollout: no drift can be read from it.
            observation = StepObservation.unseen(0, observation.cached_tokens[0])
        return self.scheduler(observation)


def derive_seed(*parts: object) -> int:
    """A seed of its own for everything random, below 2^63."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
