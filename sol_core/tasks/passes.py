"""The two passes over a task: the policy beside the dense model, then static at its spend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sol_core.actions import DENSE, ActionGrid, Budget
from sol_core.comparing.contenders import Contender
from sol_core.comparing.methods import PlannedRows
from sol_core.comparing.partial import Batch
from sol_core.comparing.rollout import Floats
from sol_core.decoding.batch_scheduling import SplitScheduler
from sol_core.evaluation.stages import ROWS_AT_ONCE
from sol_core.models import FrozenLM
from sol_core.tasks.encoding import Continuation, batches
from sol_core.tasks.scoring import score_continuations
from sol_core.tasks.static_plan import StaticPlan

__all__ = ["PolicyTaskPass", "StaticTaskPass", "TaskPass", "TaskSetting"]


@dataclass(frozen=True, slots=True)
class TaskSetting:
    """Objects shared by both passes.

    Attributes:
        continuations: of all questions.
        budgets: asked for.
    """

    lm: FrozenLM
    contender: Contender
    task: str
    continuations: Sequence[Continuation]
    budgets: tuple[Budget, ...]

    @property
    def grid(self) -> ActionGrid:
        return self.contender.grid


class TaskPass:
    """Scores of every continuation under ``group`` rows; filled batch after batch.

    Attributes:
        batches: continuations that run together; the first number is the batch's own.
        log_likelihood, greedy: [continuations, group], see ``BatchScores``.
        spend: [continuations, group, 3], summed over steps.
    """

    name, title = "", ""

    def __init__(self, setting: TaskSetting, group: int) -> None:
        self.setting, self.group = setting, group
        self._members = list(batches(setting.continuations, max(1, ROWS_AT_ONCE // group)))
        count = len(setting.continuations)
        self.log_likelihood = np.zeros((count, group))
        self.greedy = np.zeros((count, group))
        self.spend = np.zeros((count, group, 3))
        self.lengths = np.asarray([len(one.tokens) for one in setting.continuations])
        self.batches = [
            Batch(number, len(indices), self._work(indices))
            for number, indices in enumerate(self._members)
        ]

    def message(self, batch: Batch) -> str:
        """Task and pass."""
        return f"{self.setting.task}: {self.title}"

    def run(self, batch: Batch) -> None:
        """Score one batch."""
        indices = self._members[batch.first]
        scores = score_continuations(
            self.setting.lm,
            [self.setting.continuations[index] for index in indices],
            self._scheduler(indices),
            self.setting.grid,
            group=self.group,
            episode_steps=self.setting.contender.episode_steps,
        )
        self.log_likelihood[indices] = scores.log_likelihood
        self.greedy[indices] = scores.greedy
        self.spend[indices] = scores.spend

    def mean_spend(self, row: int) -> Budget:
        """Of one row, over all steps of all continuations."""
        return Budget(*(self.spend[:, row].sum(0) / self.lengths.sum()).tolist())

    def saved(self, batch: Batch) -> dict[str, Floats]:
        """Return what ``restore`` needs of a batch that has just run."""
        indices = self._members[batch.first]
        return {
            "log_likelihood": self.log_likelihood[indices],
            "greedy": self.greedy[indices],
            "spend": self.spend[indices],
        }

    def restore(self, batch: Batch, arrays: Mapping[str, Floats]) -> None:
        """Take a batch as run."""
        indices = self._members[batch.first]
        self.log_likelihood[indices] = arrays["log_likelihood"]
        self.greedy[indices] = arrays["greedy"]
        self.spend[indices] = arrays["spend"]

    def _work(self, indices: Sequence[int]) -> int:
        """Steps of rows, and prefilled tokens at half of one."""
        ones = [self.setting.continuations[index] for index in indices]
        steps = len(ones) * self.group * max(len(one.tokens) for one in ones)
        return steps + sum(len(context) for context in {one.context for one in ones}) // 2

    def _scheduler(self, indices: Sequence[int]) -> SplitScheduler:
        raise NotImplementedError


class PolicyTaskPass(TaskPass):
    """Row 0 is dense, row 1 + n the policy at budget n."""

    title = "running the policy"

    def __init__(self, setting: TaskSetting) -> None:
        super().__init__(setting, 1 + len(setting.budgets))
        self.name = f"{setting.task}-policy"

    def _scheduler(self, indices: Sequence[int]) -> SplitScheduler:
        setting, group = self.setting, self.group
        longest = int(self.lengths[indices].max())
        first_rows = [place * group for place in range(len(indices))]
        others = [row + 1 + n for row in first_rows for n in range(group - 1)]
        budgets = list(setting.budgets) * len(indices)
        return SplitScheduler(
            [
                (first_rows, PlannedRows([[DENSE] * longest] * len(indices))),
                (others, setting.contender.policy.scheduler(budgets, seed=None)),
            ]
        )


class StaticTaskPass(TaskPass):
    """Row n is static at exactly what the policy spent at budget n, see ``StaticPlan``."""

    title = "running static at the same spend"

    def __init__(self, setting: TaskSetting, spends: Sequence[Budget]) -> None:
        super().__init__(setting, len(spends))
        self.name = f"{setting.task}-static"
        lengths: dict[int, list[int]] = {}
        for one in setting.continuations:
            lengths.setdefault(one.question, []).append(len(one.tokens))
        by_question = [lengths[question] for question in sorted(lengths)]
        self._plans = [StaticPlan(spend, setting.grid, by_question) for spend in spends]

    def _scheduler(self, indices: Sequence[int]) -> SplitScheduler:
        longest = int(self.lengths[indices].max())
        questions = [self.setting.continuations[index].question for index in indices]
        plans = [plan.actions(number, longest) for number in questions for plan in self._plans]
        return SplitScheduler([(list(range(len(plans))), PlannedRows(plans))])
