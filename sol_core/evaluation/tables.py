"""Objects that all stages of an evaluation share, and the scores they gather per rollout and row.

N counts rollouts: the windows of all texts, text after text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from sol_core.actions import AXES, ActionGrid
from sol_core.budgets import MixTable
from sol_core.comparing.contenders import Contender, shared_grid
from sol_core.comparing.methods import Row, paper_grid
from sol_core.comparing.rollout import Floats, Rollout
from sol_core.decoding.schedules import Horizon
from sol_core.evaluation.config import EvaluationConfig
from sol_core.models import FrozenLM


@dataclass(frozen=True, slots=True)
class Setting:
    """Objects shared by all stages.

    Attributes:
        mixes: of the model under the policies' grid, where budgets are shares of the bytes.
    """

    lm: FrozenLM
    contenders: Sequence[Contender]
    config: EvaluationConfig
    texts: Tensor  # [N, ``config.block_len``] int64, on the model's device
    mixes: MixTable | None = None
    paper: bool = False  # steps skip work by the paper's mechanisms

    @property
    def grid(self) -> ActionGrid:
        grid = shared_grid(self.contenders)
        return paper_grid(grid) if self.paper else grid

    @property
    def episode_steps(self) -> int:
        return self.contenders[0].episode_steps

    @property
    def horizon(self) -> Horizon:
        return Horizon(self.episode_steps, self.config.steps)


class ScoreTable:
    """Means over a rollout's steps, for every rollout and row.

    Attributes:
        nll, kl: [N, rows] nats per token.
        spend: [N, rows, axes].
        dense_nll: [N] nats per token.
        share, num_bytes: [N, rows] of the dense step's bytes, and bytes; 0 where not counted.
        dense_bytes: [N].
        done: rollouts filled in so far, counted from the first, for every row.
    """

    def __init__(self, rows: Sequence[Row], count: int) -> None:
        self.rows = list(rows)
        self._columns = {row: column for column, row in enumerate(self.rows)}
        self.nll = np.zeros((count, len(self.rows)))
        self.kl = np.zeros((count, len(self.rows)))
        self.spend = np.zeros((count, len(self.rows), len(AXES)))
        self.dense_nll = np.zeros(count)
        self.share = np.zeros((count, len(self.rows)))
        self.num_bytes = np.zeros((count, len(self.rows)))
        self.dense_bytes = np.zeros(count)
        self.done = 0

    def add(
        self, first: int, first_column: int, rollout: Rollout, read: Floats | None = None
    ) -> None:
        """Fill in a rollout whose rows, dense aside, are consecutive columns.

        Args:
            read: bytes of its steps, [B, G, T], where they are counted.
        """
        count, group = rollout.nll.shape[:2]
        rollouts = slice(first, first + count)
        columns = slice(first_column, first_column + group - 1)
        self.nll[rollouts, columns] = rollout.nll[:, 1:].mean(-1)
        self.kl[rollouts, columns] = rollout.kl[:, 1:].mean(-1)
        self.spend[rollouts, columns] = rollout.spend[:, 1:].mean(2)
        self.dense_nll[rollouts] = rollout.nll[:, 0].mean(-1)
        if read is not None:
            self.share[rollouts, columns] = (read[:, 1:] / read[:, :1]).mean(-1)
            self.num_bytes[rollouts, columns] = read[:, 1:].mean(-1)
            self.dense_bytes[rollouts] = read[:, 0].mean(-1)
        if first_column + group - 1 == len(self.rows):
            self.done = first + count

    def column(self, method: str, budget: int) -> int:
        """Return the column that holds a row."""
        return self.place(Row(method, budget))

    def place(self, row: Row) -> int:
        return self._columns[row]

    def random_columns(self, budget: int) -> list[int]:
        """The columns of a budget's random schedules, in order."""
        return [
            column
            for column, row in enumerate(self.rows)
            if row.method == "random" and row.budget == budget
        ]

    def has(self, method: str) -> bool:
        return any(row.method == method for row in self.rows)


class TokenTable:
    """Every scored token of the first policy's rows and of the dense one.

    Attributes:
        surprisal, entropy: [N, T] nats, dense.
        spend: [budgets, N, T, axes].
        kl: [budgets, N, T] nats.
        share: [budgets, N, T] of the dense step's bytes; 0 where not counted.
    """

    def __init__(self, num_budgets: int, count: int, num_steps: int) -> None:
        self.surprisal = np.zeros((count, num_steps))
        self.entropy = np.zeros((count, num_steps))
        self.spend = np.zeros((num_budgets, count, num_steps, len(AXES)))
        self.kl = np.zeros((num_budgets, count, num_steps))
        self.share = np.zeros((num_budgets, count, num_steps))

    def add(
        self, first: int, first_column: int, rollout: Rollout, read: Floats | None = None
    ) -> None:
        """Fill in a rollout; columns 0 to ``budgets`` − 1 are the first policy's."""
        count, group = rollout.nll.shape[:2]
        rollouts = slice(first, first + count)
        self.surprisal[rollouts] = rollout.nll[:, 0]
        self.entropy[rollouts] = rollout.dense_entropy
        for column in range(first_column, min(first_column + group - 1, len(self.spend))):
            row = 1 + column - first_column
            self.spend[column, rollouts] = rollout.spend[:, row]
            self.kl[column, rollouts] = rollout.kl[:, row]
            if read is not None:
                self.share[column, rollouts] = read[:, row] / read[:, 0]
