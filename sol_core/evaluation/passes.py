"""The passes of an evaluation at matched spend, each beside the dense model.

Pass 1 finds what the first method really spends at every budget; the others get exactly that, per
axis or in bytes. Rollouts compensate for bytes that earlier ones read too much or too little, so
that the means are equal.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import product, starmap
from typing import cast

from sol_core.actions import ActionGrid, Budget
from sol_core.budgets.mixes import MixTable
from sol_core.budgets.row_schedules import build_schedule
from sol_core.config import ScheduleConfig, ScheduleKind
from sol_core.decoding.batch_scheduling import RowSchedules, Schedule
from sol_core.decoding.schedules import FixedSchedule, Horizon, RandomSchedule, StaticSchedule
from sol_core.evaluation.contenders import Contender
from sol_core.evaluation.stages import Row, ScheduledRows, Setting, TablePass

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


class BaselineSchedules:
    """Schedules of the baseline rows at mean spends per axis; static and random ones run on through
    all rollouts, so that their means are met.
    """

    def __init__(
        self, spends: Sequence[Budget], grid: ActionGrid, horizon: Horizon, *, seed: int
    ) -> None:
        self._spends, self._grid, self._horizon, self._seed = spends, grid, horizon, seed
        self._planners: dict[Row, RandomSchedule] = {}
        self._plans: dict[Row, list[FixedSchedule]] = {}  # of random rows, by rollout

    def schedule(self, row: Row, rollout: int) -> Schedule:
        """The schedule of a baseline row in one rollout."""
        spend, steps = self._spends[row.budget], self._horizon.total_steps
        if row.method == "static":  # mixes levels by the number of the step
            return StaticSchedule(spend, self._grid, first_step=rollout * steps)
        if row.method != "random":
            config = ScheduleConfig(cast(ScheduleKind, row.method), spend)
            return build_schedule(config, self._grid, horizon=self._horizon)
        if row not in self._planners:
            seed = derive_seed(self._seed, "random", row.budget, row.index)
            planner = RandomSchedule(spend, self._grid, seed=seed, horizon=self._horizon)
            self._planners[row], self._plans[row] = planner, []
        planner, plans = self._planners[row], self._plans[row]
        while len(plans) <= rollout:
            plans.append(FixedSchedule([planner.next(step) for step in range(steps)]))
        return plans[rollout]


def derive_seed(*parts: object) -> int:
    """A seed of its own for everything random, below 2^63."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


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

    def _parts(self, rows: Sequence[Row], first: int, count: int) -> list[ScheduledRows]:
        budgets, parts = self._budgets(), []
        for method, contender in self._sources.items():
            mine = [number for number, row in enumerate(rows) if row.method == method]
            if slots := list(product(range(count), mine)):
                asked = [budgets[rows[number].budget] for _, number in slots]
                first_context = self.setting.config.first_context
                contexts = [first_context(first + at) - 1 for at, _ in slots]
                parts.append((slots, contender.scheduler(asked, contexts)))
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

    @cached_property
    def _spends(self) -> list[Budget]:
        return self._policies.matched()

    @cached_property
    def _per_axis(self) -> BaselineSchedules:
        setting, spends = self.setting, self._spends
        return BaselineSchedules(spends, setting.grid, setting.horizon, seed=setting.config.seed)

    def _parts(self, rows: Sequence[Row], first: int, count: int) -> list[ScheduledRows]:
        slots = list(product(range(count), range(len(rows))))
        if (mixes := self.setting.mixes) is None:
            made = [self._per_axis.schedule(rows[row], first + at) for at, row in slots]
        else:
            aims = [self._aim(row, first, count) for row in rows]
            made = [self._at_share(rows[row], aims[row], first + at, mixes) for at, row in slots]
        return [(slots, RowSchedules(made))]

    def _aim(self, row: Row, first: int, count: int) -> float:
        """Share for the next ``count`` rollouts; all before the first are in the table."""
        share = self._spends[row.budget].bytes_share
        assert share is not None
        owed = float((share - self.share[:first, self.columns[row]]).sum()) / count
        return share + min(max(owed, -MOST_OWED), MOST_OWED)

    def _at_share(self, row: Row, aim: float, rollout: int, mixes: MixTable) -> Schedule:
        setting, bits = self.setting, self._spends[row.budget].bit_width
        context = setting.config.first_context(rollout)
        share = min(max(aim, mixes.lowest_share(context)), 1.0)
        is_static = row.method == "static"
        budget = Budget.share(share, bits) if is_static else mixes.mean(share, context, bits)
        seed = derive_seed(setting.config.seed, "random", row.budget, row.index, rollout)
        config = ScheduleConfig(cast(ScheduleKind, row.method), budget, seed)
        return build_schedule(config, setting.grid, horizon=setting.horizon, mixes=mixes)
