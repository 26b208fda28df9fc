"""The baselines of an evaluation whose budgets are shares of the dense bytes.

Every baseline aims at the share that the policy really read: static by its mixes, the line by its
place on it, the uneven ones at the mixes' mean. The next rollouts compensate for
bytes that earlier ones read too much or too little, so the mean over an evaluation is the policy's
even where the levels cannot express it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from sol_core.actions import Budget
from sol_core.budgets.building import build_scheduler
from sol_core.comparing.methods import BaselineRows, Lane, Part, Row, derive_seed, line, place_on
from sol_core.config import ScheduleConfig, ScheduleKind
from sol_core.decoding.batch_scheduling import RowSchedulers
from sol_core.decoding.schedules import Scheduler, SignalScheduler, StaticScheduler
from sol_core.evaluation.tables import ScoreTable, Setting

MOST_OWED = 0.1  # of dense, that a rollout's aim is moved to make good what was read before


class ShareRows(BaselineRows):
    """Rows that aim at shares."""

    def __init__(self, setting: Setting, table: ScoreTable, spends: Sequence[Budget]) -> None:
        super().__init__(spends, setting.grid, setting.horizon, seed=setting.config.seed)
        assert setting.mixes is not None
        self._setting, self._table = setting, table
        self._mixes, self._line = setting.mixes, line(setting.grid)

    def parts(self, rows: Sequence[Row], count: int, first: int = 0) -> list[Part]:
        """As of ``BaselineRows``; all rollouts before the first are in the table."""
        aims = [self._aim(row, first, count) for row in rows]
        placed, schedulers = [], []
        for rollout in range(count):
            for number, (row, aim) in enumerate(zip(rows, aims, strict=True)):
                placed.append((rollout, number))
                schedulers.append(self._scheduler(row, aim, (first + rollout, rollout)))
        return [(placed, RowSchedulers(schedulers))]

    def _aim(self, row: Row, first: int, count: int) -> float:
        """Share for the next ``count`` rollouts."""
        share = self._spends[row.budget].bytes_share
        assert share is not None
        before = self._table.share[:first, self._table.place(row)]
        owed = float((share - before).sum()) / count
        return share + min(max(owed, -MOST_OWED), MOST_OWED)

    def _scheduler(self, row: Row, aim: float, place: tuple[int, int]) -> Scheduler:
        """Args: place: number of the rollout, and its place in the batch."""
        setting, (rollout, lane) = self._setting, place
        steps, bits = setting.config.steps, self._spends[row.budget].bit_width
        context = setting.config.first_context(rollout)
        share = min(max(aim, self._mixes.lowest(context)), 1.0)
        if row.method == "line":
            budget = self._on_line(share, context, bits)
            return StaticScheduler(budget, setting.grid, first_step=rollout * steps)
        mean = self._mixes.mean(share, context, bits)
        if row.method == "static":
            mean = Budget.share(share, bits)
        seed = derive_seed(self._seed, "random", row.budget, row.index, rollout)
        config = ScheduleConfig(cast(ScheduleKind, row.method), mean, seed)
        made = build_scheduler(config, setting.grid, horizon=self._horizon, mixes=self._mixes)
        return self._going_on(made, (row, lane)) if isinstance(made, SignalScheduler) else made

    def _going_on(self, made: SignalScheduler, key: tuple[Row, int]) -> Lane:
        """A signal-driven schedule at another budget, with the statistics of its lane."""
        if key in self._lanes:
            made.go_on_from(self._lanes[key].scheduler.state())
        self._lanes[key] = Lane(made)
        return self._lanes[key]

    def _on_line(self, share: float, context: int, bits: float) -> Budget:
        counted = self._mixes.step_bytes
        return place_on(self._line, bits, share, lambda at: counted.share(at, context))
