"""Pass 3: static under the paper's mechanisms, at the bytes that the static mix read.

Attention is lowered first, then channels (``methods.attention_first``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from torch import Tensor

from sol_core.actions import Budget
from sol_core.comparing.methods import Part, Row, attention_first, place_on, read_beyond
from sol_core.comparing.rollout import Floats
from sol_core.decoding.batch_scheduling import RowSchedulers
from sol_core.decoding.schedules import StaticScheduler
from sol_core.evaluation.measurement import Batch
from sol_core.evaluation.stages import TablePass
from sol_core.evaluation.tables import ScoreTable, Setting


class PaperPass(TablePass):
    """The paper's mechanisms, a row for each budget.

    Args:
        baselines: the table whose static rows are matched; full before this pass runs.
    """

    name, title = "paper", "Running the paper's mechanisms at the same bytes"

    def __init__(self, setting: Setting, baselines: ScoreTable) -> None:
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
        tried = self._rollouts(first_text, 1)
        read: Floats = self.table.share[tried].mean(0)
        return read, self._allowed(range(tried.start, tried.stop))

    def saved(self, batch: Batch) -> dict[str, Floats]:
        assert self._beyond is not None
        return super().saved(batch) | {"beyond": self._beyond}

    def restore(self, batch: Batch, arrays: Mapping[str, Floats]) -> None:
        super().restore(batch, arrays)
        self._beyond = arrays["beyond"]

    def _parts(self, rows: Sequence[Row], first: int, count: int) -> list[Part]:
        config, grid = self.setting.config, self.setting.grid
        placed, schedulers = [], []
        for rollout in range(count):
            for number, row in enumerate(rows):
                budget = self._budget(row.budget, config.first_context(first + rollout))
                step = (first + rollout) * config.steps
                placed.append((rollout, number))
                schedulers.append(StaticScheduler(budget, grid, first_step=step))
        return [(placed, RowSchedulers(schedulers))]

    def _budget(self, index: int, context: int) -> Budget:
        assert self._beyond is not None
        column = self._baselines.column("static", index)
        share = float(self._baselines.share[:, column].mean() - self._beyond[index])
        bits = float(self._baselines.spend[:, column, 2].mean())
        return place_on(self._corners, bits, share, lambda at: self._share(at, context))

    def _share(self, budget: Budget, context: int) -> float:
        """Share of a dense step's bytes that a budget allows."""
        assert self.step_bytes is not None
        return self.step_bytes.share(budget, context)

    def _allowed(self, rollouts: Sequence[int]) -> Floats:
        """[budgets] mean share that the rollouts' actions allowed."""
        contexts = [self.setting.config.first_context(rollout) for rollout in rollouts]
        return np.asarray(
            [
                np.mean([self._share(self._budget(row.budget, at), at) for at in contexts])
                for row in self.table.rows
            ]
        )
