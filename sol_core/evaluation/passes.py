"""The passes of an evaluation at matched spend, each beside the dense model.

Pass 1 finds what the first method really spends at every budget; the others get exactly that, per
axis or in bytes. Rollouts compensate for bytes that earlier ones read too much or too little, so
that the means are equal. Static and random schedules are planned, and run on through all rollouts;
EMC and DAC keep steering and statistics, one scheduler per slot of the batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import product, starmap
from typing import cast

import numpy as np

from sol_core.actions import Action, ActionGrid, Budget
from sol_core.budgets.building import build_schedule
from sol_core.config import ScheduleConfig, ScheduleKind
from sol_core.decoding.batch_scheduling import RowSchedules, Schedule, StepObservation
from sol_core.decoding.schedules import (
    FixedSchedule,
    Horizon,
    RandomSchedule,
    SignalSchedule,
    StaticSchedule,
)
from sol_core.evaluation.contenders import Contender
from sol_core.evaluation.measurement import Batch
from sol_core.evaluation.rollout import Floats
from sol_core.evaluation.stages import Part, Row, Setting, TablePass

MOST_OWED = 0.1  # of dense, that a rollout's aim is moved to make good what was read before


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


class ShareRows(BaselineRows):
    """Rows that aim at shares."""

    def __init__(self, table: TablePass, spends: Sequence[Budget]) -> None:
        setting = table.setting
        super().__init__(spends, setting.grid, setting.horizon, seed=setting.config.seed)
        assert setting.mixes is not None
        self._setting, self._table, self._mixes = setting, table, setting.mixes

    def parts(self, rows: Sequence[Row], first: int, count: int) -> list[Part]:
        """Schedulers as of ``BaselineRows``; all rollouts before the first are in the table."""
        aims = {row: self._aim(row, first, count) for row in rows}
        return row_by_row(
            rows, count, lambda row, slot: self._at_share(row, aims[row], first + slot, slot)
        )

    def _aim(self, row: Row, first: int, count: int) -> float:
        """Share for the next ``count`` rollouts."""
        share = self._spends[row.budget].bytes_share
        assert share is not None
        before = self._table.share[:first, self._table.columns[row]]
        owed = float((share - before).sum()) / count
        return share + min(max(owed, -MOST_OWED), MOST_OWED)

    def _at_share(self, row: Row, aim: float, rollout: int, slot: int) -> Schedule:
        setting, bits = self._setting, self._spends[row.budget].bit_width
        context = setting.config.first_context(rollout)
        share = min(max(aim, self._mixes.lowest(context)), 1.0)
        mean = self._mixes.mean(share, context, bits)
        if row.method == "static":
            mean = Budget.share(share, bits)
        seed = derive_seed(self._seed, "random", row.budget, row.index, rollout)
        config = ScheduleConfig(cast(ScheduleKind, row.method), mean, seed)
        made = build_schedule(config, setting.grid, horizon=self._horizon, mixes=self._mixes)
        if not isinstance(made, SignalSchedule):
            return made
        # A signal-driven schedule goes on at another budget, with the statistics of the one before.
        if (row, slot) in self._signals:
            made.go_on_from(self._signals[row, slot].state())
        self._signals[row, slot] = made
        return restarted(made)


class ContenderPass(TablePass):
    """Methods that observe the steps, each at every budget."""

    observes = True

    def __init__(
        self,
        setting: Setting,
        sources: Mapping[str, Contender],  # by row
        budgets: Callable[[], Sequence[Budget]],
    ) -> None:
        self._sources, self._budgets = sources, budgets
        super().__init__(setting, list(starmap(Row, product(sources, range(setting.num_budgets)))))

    def _parts(self, rows: Sequence[Row], first: int, count: int) -> list[Part]:
        budgets, parts = self._budgets(), []
        for method, contender in self._sources.items():
            mine = [number for number, row in enumerate(rows) if row.method == method]
            if slots := list(product(range(count), mine)):
                asked = [budgets[rows[number].budget] for _, number in slots]
                parts.append((slots, contender.scheduler(asked)))
        return parts


class PolicyPass(ContenderPass):
    """Pass 1: the first method at every requested budget."""

    name, title = "policy", "Running the policy"

    def __init__(self, setting: Setting) -> None:
        config, contender = setting.config, setting.contenders[0]
        super().__init__(setting, {"policy": contender}, lambda: config.budgets)

    def matched(self) -> list[Budget]:
        """Budgets asked of all others: mean shares of the bytes, or mean spends per axis."""
        matched = []
        for budget in range(self.setting.num_budgets):
            column = self.column("policy", budget)
            mean = Budget(*self.spend[:, column].mean(axis=0).tolist())
            if self.setting.config.by_share:
                share = min(float(self.share[:, column].mean()), 1.0)
                mean = Budget.share(share, mean.bit_width)
            matched.append(mean)
        return matched


class OtherMethodsPass(ContenderPass):
    """The other methods at what the first one spent; pass 1 must have run over all texts."""

    name, title = "rivals", "Running the other methods at its spend"

    def __init__(self, setting: Setting, policies: PolicyPass) -> None:
        others = {f"policy:{other.name}": other for other in setting.contenders[1:]}
        super().__init__(setting, others, policies.matched)


class BaselinePass(TablePass):
    """Pass 2: the baselines at what pass 1 spent; it must have run over all texts."""

    name, title = "baselines", "Running the baselines at the same spend"

    def __init__(self, setting: Setting, policies: PolicyPass) -> None:
        config = setting.config
        rows = baseline_rows(setting.num_budgets, config.num_random, config.signals)
        super().__init__(setting, rows)
        self._policies = policies

    def saved(self, batch: Batch) -> dict[str, Floats]:
        return super().saved(batch) | {"steering": self._rows.steering()}

    def restore(self, batch: Batch, arrays: Mapping[str, Floats]) -> None:
        super().restore(batch, arrays)
        # The schedules run on from text to text: bring them to where this batch left them.
        rollouts = self._rollouts(batch.first, batch.count)
        for first in range(rollouts.start, rollouts.stop, self._rollouts_at_once):
            for start, stop in self._pieces:
                count = min(self._rollouts_at_once, rollouts.stop - first)
                self._parts(self.rows[start:stop], first, count)
        self._rows.steer(arrays["steering"])

    @cached_property
    def _rows(self) -> BaselineRows:
        setting, spends = self.setting, self._policies.matched()
        if setting.mixes is not None:
            return ShareRows(self, spends)
        return BaselineRows(spends, setting.grid, setting.horizon, seed=setting.config.seed)

    def _parts(self, rows: Sequence[Row], first: int, count: int) -> list[Part]:
        return self._rows.parts(rows, first, count)
