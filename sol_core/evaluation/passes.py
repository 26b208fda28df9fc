"""The passes of an evaluation at matched spend, each beside the dense model.

Pass 1 finds what the first method really spends at every budget; the others get exactly that, per
axis or in bytes. Rollouts compensate for bytes that earlier ones read too much or too little, so
that the means are equal. Pass 3 is static under the paper's mechanisms at static's bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import cast

import numpy as np
from torch import Tensor

from sol_core.actions import Budget
from sol_core.budgets.building import build_schedule
from sol_core.config import ScheduleConfig, ScheduleKind
from sol_core.decoding.batch_scheduling import Schedule
from sol_core.decoding.schedules import SignalSchedule, StaticSchedule
from sol_core.evaluation.contenders import Contender
from sol_core.evaluation.measurement import Batch
from sol_core.evaluation.methods import (
    BaselineRows,
    Part,
    RestartedSchedule,
    Row,
    attention_first,
    baseline_rows,
    derive_seed,
    place_on,
    read_beyond,
    row_by_row,
)
from sol_core.evaluation.rollout import Floats, Rollout
from sol_core.evaluation.stages import ScoreTable, Setting, TablePass, TokenTable

MOST_OWED = 0.1  # of dense, that a rollout's aim is moved to make good what was read before


class ShareRows(BaselineRows):
    """Rows that aim at shares."""

    def __init__(self, setting: Setting, table: ScoreTable, spends: Sequence[Budget]) -> None:
        super().__init__(spends, setting.grid, setting.horizon, seed=setting.config.seed)
        assert setting.mixes is not None
        self._setting, self._table = setting, table
        self._mixes = setting.mixes

    def parts(self, rows: Sequence[Row], first: int, count: int) -> list[Part]:
        """As of ``BaselineRows``; all rollouts before the first are in the table."""
        aims = {row: self._aim(row, first, count) for row in rows}
        return row_by_row(
            rows, count, lambda row, place: self._at_share(row, aims[row], first + place, place)
        )

    def _aim(self, row: Row, first: int, count: int) -> float:
        """Share for the next ``count`` rollouts."""
        share = self._spends[row.budget].bytes_share
        assert share is not None
        before = self._table.share[:first, self._table.columns[row]]
        owed = float((share - before).sum()) / count
        return share + min(max(owed, -MOST_OWED), MOST_OWED)

    def _at_share(self, row: Row, aim: float, rollout: int, place: int) -> Schedule:
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
        # A signal-driven schedule goes on at another budget, with the statistics of its restarted.
        if (row, place) in self._restarted:
            made.go_on_from(self._restarted[row, place].scheduler.state())
        self._restarted[row, place] = RestartedSchedule(made)
        return self._restarted[row, place]


class ContenderPass(TablePass):
    """Methods that observe the steps, each at every budget."""

    observes = True

    def __init__(self, setting: Setting, sources: Mapping[str, tuple[Contender, bool]]) -> None:
        # By their rows' names, and whether their actions are sampled.
        self._sources, num_budgets = sources, len(setting.config.budgets)
        rows = [Row(method, budget) for method in sources for budget in range(num_budgets)]
        super().__init__(setting, rows)

    def _budgets(self) -> Sequence[Budget]:
        return self.setting.config.budgets

    def _parts(self, rows: Sequence[Row], first: int, count: int) -> list[Part]:
        budgets, parts = self._budgets(), []
        for method, (contender, sampled) in self._sources.items():
            mine = [number for number, row in enumerate(rows) if row.method == method]
            placed = [(place, number) for place in range(count) for number in mine]
            if placed:
                asked = [budgets[rows[number].budget] for _, number in placed]
                seed = derive_seed(self.setting.config.seed, method, first) if sampled else None
                parts.append((placed, contender.scheduler(asked, seed)))
        return parts


class PolicyPass(ContenderPass):
    """Pass 1: the first method at every requested budget."""

    name, title = "policy", "Running the policy"

    def __init__(self, setting: Setting) -> None:
        config, contender = setting.config, setting.contenders[0]
        sampled = {"policy_sampled": (contender, True)} if config.sampled else {}
        super().__init__(setting, {"policy": (contender, False), **sampled})
        self.tokens = TokenTable(len(config.budgets), config.num_rollouts, config.steps)

    def _add(self, first: int, column: int, rollout: Rollout, read: Floats | None) -> None:
        super()._add(first, column, rollout, read)
        self.tokens.add(first, column, rollout, read)

    def part(self, first_text: int, count: int) -> dict[str, Floats]:
        tokens, rollouts = self.tokens, self._rollouts(first_text, count)
        arrays = super().part(first_text, count) | {
            "token_surprisal": tokens.surprisal[rollouts],
            "token_entropy": tokens.entropy[rollouts],
            "token_spend": tokens.spend[:, rollouts],
            "token_kl": tokens.kl[:, rollouts],
        }
        if self.setting.config.by_share:
            arrays["token_share"] = tokens.share[:, rollouts]
        return arrays

    def matched(self) -> list[Budget]:
        """Budgets asked of all others: mean shares of the bytes, or mean spends per axis."""
        table, matched = self.table, []
        for budget in range(len(self.setting.config.budgets)):
            column = table.column("policy", budget)
            mean = Budget(*table.spend[:, column].mean(axis=0).tolist())
            if self.setting.config.by_share:
                share = min(float(table.share[:, column].mean()), 1.0)
                mean = Budget.share(share, mean.bit_width)
            matched.append(mean)
        return matched


class RivalPass(ContenderPass):
    """The other methods at what the first one spent; pass 1 must have run over all texts."""

    name, title = "rivals", "Running the other methods at its spend"

    def __init__(self, setting: Setting, policies: PolicyPass) -> None:
        others = {f"policy:{other.name}": (other, False) for other in setting.contenders[1:]}
        super().__init__(setting, others)
        self._policies = policies

    def _budgets(self) -> Sequence[Budget]:
        return self._policies.matched()


class BaselinePass(TablePass):
    """Pass 2: the baselines at what pass 1 spent; it must have run over all texts."""

    name, title = "baselines", "Running the baselines at the same spend"

    def __init__(self, setting: Setting, policies: PolicyPass) -> None:
        config = setting.config
        rows = baseline_rows(len(config.budgets), config.num_random, config.signals)
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
                rows = self.table.rows[start:stop]
                self._parts(rows, first, min(self._rollouts_at_once, rollouts.stop - first))
        self._rows.steer(arrays["steering"])

    @cached_property
    def _rows(self) -> BaselineRows:
        setting, spends = self.setting, self._policies.matched()
        if setting.mixes is not None:
            return ShareRows(setting, self.table, spends)
        return BaselineRows(spends, setting.grid, setting.horizon, seed=setting.config.seed)

    def _parts(self, rows: Sequence[Row], first: int, count: int) -> list[Part]:
        return self._rows.parts(rows, first, count)


class PaperPass(TablePass):
    """The paper's mechanisms, a row for each budget."""

    name, title = "paper", "Running the paper's mechanisms at the same bytes"

    def __init__(self, setting: Setting, baselines: ScoreTable) -> None:
        """The static rows of ``baselines`` are matched; it is full before this pass runs."""
        rows = [Row("paper", budget) for budget in range(len(setting.config.budgets))]
        super().__init__(replace(setting, paper=True), rows)
        self._baselines = baselines
        self._corners = attention_first(self.setting.grid)
        self._beyond: Floats | None = None  # [budgets] share read beyond what actions allow

    def run_texts(self, first_text: int, blocks: Tensor) -> None:
        if self._beyond is None:
            trial = partial(self._tried, first_text, blocks[:1])
            self._beyond = read_beyond(len(self.table.rows), trial)
        super().run_texts(first_text, blocks)

    def _tried(self, first_text: int, blocks: Tensor, beyond: Floats) -> tuple[Floats, Floats]:
        """Shares that one text's rollouts read, and that their actions allowed: [budgets] each."""
        self._beyond = beyond
        super().run_texts(first_text, blocks)
        tried, config = self._rollouts(first_text, 1), self.setting.config
        read: Floats = self.table.share[tried].mean(0)
        contexts = [config.first_context(n) for n in range(tried.start, tried.stop)]
        allowed = [
            [self.costs.share(self._budget(row.budget, at), at) for at in contexts]
            for row in self.table.rows
        ]
        return read, np.mean(allowed, 1)

    def saved(self, batch: Batch) -> dict[str, Floats]:
        assert self._beyond is not None
        return super().saved(batch) | {"beyond": self._beyond}

    def restore(self, batch: Batch, arrays: Mapping[str, Floats]) -> None:
        super().restore(batch, arrays)
        self._beyond = arrays["beyond"]

    def _parts(self, rows: Sequence[Row], first: int, count: int) -> list[Part]:
        config, grid = self.setting.config, self.setting.grid

        def static(row: Row, place: int) -> StaticSchedule:
            budget = self._budget(row.budget, config.first_context(first + place))
            return StaticSchedule(budget, grid, first_step=(first + place) * config.steps)

        return row_by_row(rows, count, static)

    def _budget(self, index: int, context: int) -> Budget:
        assert self._beyond is not None
        column = self._baselines.column("static", index)
        share = float(self._baselines.share[:, column].mean() - self._beyond[index])
        bits = float(self._baselines.spend[:, column, 2].mean())
        return place_on(self._corners, bits, share, lambda at: self.costs.share(at, context))
