"""The passes over a task: the policy beside the dense model, then what it is compared with."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, product
from operator import attrgetter

import numpy as np

from sol_core.accuracy.plans import PaperReading, SharePlan, StaticPlan
from sol_core.accuracy.questions import Continuation, Question, batches
from sol_core.accuracy.recall import WRITTEN_TOKENS, is_finished, is_recall
from sol_core.accuracy.scoring import ReadContexts, read_contexts, score_after, write_after
from sol_core.actions import AXES, ActionGrid, Budget
from sol_core.budgets.mixes import MixTable
from sol_core.decoding.batch_scheduling import BatchScheduler, PlannedRows
from sol_core.evaluation.contenders import Contender
from sol_core.evaluation.measurement import Batch
from sol_core.evaluation.methods import attention_first, budget_on_path, paper_grid, read_beyond
from sol_core.evaluation.rollout import Floats
from sol_core.evaluation.stages import ROWS_AT_ONCE, assemble
from sol_core.models import FrozenLM


@dataclass(frozen=True, slots=True)
class TaskSetting:
    """Objects shared by all passes."""

    lm: FrozenLM
    contender: Contender
    task: str
    questions: Sequence[Question]
    continuations: Sequence[Continuation]  # of all questions
    budgets: tuple[Budget, ...]  # asked for
    spell: Callable[[list[int]], str]  # the text of token ids
    mixes: MixTable | None  # where budgets are shares of the bytes

    @property
    def name(self) -> str:
        """The task and a hash of its texts."""
        texts = [(item.context, item.tokens, item.read) for item in self.continuations]
        return f"{self.task}-{hashlib.sha256(repr(texts).encode()).hexdigest()[:12]}"

    @property
    def contexts(self) -> list[int]:
        """Tokens before the first step of each question."""
        return [len(choices[-1].context) - 1 for choices in self._by_question()]

    @property
    def lengths(self) -> list[list[int]]:
        """The steps of each choice of each question."""
        return [[len(choice.tokens) for choice in choices] for choices in self._by_question()]

    def _by_question(self) -> Iterator[list[Continuation]]:
        for _, choices in groupby(self.continuations, attrgetter("question")):
            yield list(choices)


Plan = StaticPlan | SharePlan  # levels of every question's steps, known beforehand
_SAVED = ("log_likelihood", "greedy", "spend", "num_bytes", "tokens")
_UNEVEN = 1.5  # steps of the longest continuation of a piece over those of its shortest


class TaskPass:
    """Scores of every continuation under ``group`` rows; filled batch after batch."""

    def __init__(
        self,
        setting: TaskSetting,
        name: str,
        grid: ActionGrid,
        group: int,  # rows of a continuation
        schedule: Callable[[list[int], int], BatchScheduler],  # of questions, for so many steps
    ) -> None:
        self.setting, self.group, self.grid = setting, group, grid
        self.name = f"{setting.name}-{name}"
        self._title = f"{setting.task}: running {'the policy' if name == 'policy' else name}"
        self._schedule = schedule
        self._recalls = is_recall(setting.task)
        self.members = list(batches(setting.continuations, max(1, ROWS_AT_ONCE // group)))
        count = len(setting.continuations)
        self.log_likelihood, self.greedy, self.num_bytes = np.zeros((3, count, group))
        self.spend = np.zeros((count, group, len(AXES)))
        self.lengths = np.asarray([len(item.tokens) for item in setting.continuations])
        self.tokens = np.zeros((count, group, WRITTEN_TOKENS * self._recalls))
        self.batches = [
            Batch(number, len(indices), self._work(indices))
            for number, indices in enumerate(self.members)
        ]

    def message(self, batch: Batch) -> str:
        return self._title

    def run(self, batch: Batch) -> None:
        indices = self.members[batch.first]
        observe = self._scheduler(indices, int(self.lengths[indices].max())).observes
        read = read_contexts(self.setting.lm, self.chosen(indices), self.grid, observe=observe)
        exact = self.setting.mixes is not None
        for numbers in _of_about_one_length(self.lengths[indices].tolist()):
            members = [indices[number] for number in numbers]
            scheduler = self._scheduler(members, int(self.lengths[members].max()))
            rows = read.rows(numbers)
            scores = score_after(rows, scheduler, group=self.group, exact=exact)
            for name, values in scores._asdict().items():
                getattr(self, name)[members] = values
        if self._recalls:
            self._write(indices, read)

    def _write(self, indices: Sequence[int], read: ReadContexts) -> None:
        """Add a text written after each question, which no spend counts."""
        questions = [continuation.question for continuation in read.asked]
        order = list(dict.fromkeys(questions))
        firsts = [questions.index(question) for question in order]
        writer = self._scheduler([indices[first] for first in firsts], WRITTEN_TOKENS)
        tokens = write_after(
            read,
            firsts,
            writer,
            steps=WRITTEN_TOKENS,
            group=self.group,
            is_done=lambda row: is_finished(self.setting.spell(row)),
        )
        self.tokens[indices] = tokens[[order.index(question) for question in questions]]

    def mean_spend(self, row: int) -> Budget:
        """The mean spend of one row over all steps of all continuations."""
        return Budget(*(self.spend[:, row].sum(0) / self.lengths.sum()).tolist())

    def mean_bytes(self, row: int) -> float:
        """Computed bytes that a step of one row reads, over all steps of all continuations."""
        return float(self.num_bytes[:, row].sum() / self.lengths.sum())

    def share(self, row: int) -> Budget:
        """The share of row 0's bytes that one row read over all steps, and its mean bits."""
        share = self.mean_bytes(row) / self.mean_bytes(0)
        return Budget.share(min(share, 1.0), self.mean_spend(row).bit_width)

    def saved(self, batch: Batch) -> dict[str, Floats]:
        indices = self.members[batch.first]
        return {name: getattr(self, name)[indices] for name in _SAVED}

    def restore(self, batch: Batch, arrays: Mapping[str, Floats]) -> None:
        indices = self.members[batch.first]
        for name in _SAVED:
            getattr(self, name)[indices] = arrays[name]

    def chosen(self, indices: Sequence[int]) -> list[Continuation]:
        return [self.setting.continuations[index] for index in indices]

    def _work(self, indices: Sequence[int]) -> int:
        """Steps of rows, and prefilled tokens at half of one."""
        chosen = self.chosen(indices)
        steps = len(chosen) * self.group * max(len(item.tokens) for item in chosen)
        if self._recalls:
            steps += len({item.question for item in chosen}) * self.group * WRITTEN_TOKENS
        shared = {item.context[: item.shared] for item in chosen}
        alone = {item.context[item.shared :] for item in chosen}
        return steps + sum(map(len, shared | alone)) // 2

    def _scheduler(self, indices: Sequence[int], steps: int) -> BatchScheduler:
        return self._schedule([item.question for item in self.chosen(indices)], steps)


def policy_pass(setting: TaskSetting) -> TaskPass:
    """Row 0 is dense, row 1 + n the policy at budget n."""
    budgets, contender = setting.budgets, setting.contender
    group = 1 + len(budgets)

    def schedule(questions: list[int], steps: int) -> BatchScheduler:
        count = len(questions)
        rows = list(product(range(count), range(len(budgets))))
        return assemble([(rows, contender.scheduler(budgets * count, None))], count, group)

    return TaskPass(setting, "policy", contender.grid, group, schedule)


def _planned_pass(
    setting: TaskSetting, name: str, plans: Sequence[Plan], grid: ActionGrid
) -> TaskPass:
    """Row n follows plan n, the same one for all choices of a question."""

    def schedule(questions: list[int], steps: int) -> BatchScheduler:
        return PlannedRows([plan.actions(number, steps) for number in questions for plan in plans])

    return TaskPass(setting, name, grid, len(plans), schedule)


def static_pass(policies: TaskPass) -> TaskPass:
    """Static at what the policy spent at each budget, or at its share of the bytes."""
    setting, grid, plans = policies.setting, policies.grid, list[Plan]()
    for row in range(1, policies.group):
        if setting.mixes is None:
            plans.append(StaticPlan(policies.mean_spend(row), grid, setting.lengths))
        else:
            share, of_questions = policies.share(row), (setting.contexts, setting.lengths)
            plans.append(SharePlan(share, grid, setting.mixes, *of_questions))
    return _planned_pass(setting, "static", plans, grid)


def paper_pass(policies: TaskPass, statics: TaskPass) -> TaskPass:
    """Static with the paper's mechanisms that reads as many bytes as static, see ``paper_plan``."""
    setting, grid = statics.setting, paper_grid(statics.grid)
    if setting.mixes is not None:
        return _paper_by_share(policies, statics, grid)
    reading = PaperReading(setting.lm, grid, setting.continuations)
    budgets = [
        reading.budget(spend, statics.mean_bytes(row))
        for row, spend in enumerate(_spends(policies))
    ]
    plans = [StaticPlan(budget, grid, setting.lengths) for budget in budgets]
    return _planned_pass(setting, "paper", plans, grid)


def _paper_by_share(policies: TaskPass, statics: TaskPass, grid: ActionGrid) -> TaskPass:
    """Budgets are corrected by what the first batch reads beyond what its actions allow."""
    setting, corners = statics.setting, attention_first(grid)
    reading = PaperReading(setting.lm, grid, setting.continuations)
    bits = [spend.bit_width for spend in _spends(policies)]

    def at(beyond: Floats) -> tuple[TaskPass, list[Budget]]:
        targets = (statics.mean_bytes(row) - more for row, more in enumerate(beyond.tolist()))
        pairs = zip(bits, targets, strict=True)
        budgets = [budget_on_path(corners, width, target, reading.of) for width, target in pairs]
        plans = [StaticPlan(budget, grid, setting.lengths) for budget in budgets]
        return _planned_pass(setting, "paper", plans, grid), budgets

    def trial(beyond: Floats) -> tuple[Floats, Floats]:
        made, budgets = at(beyond)
        made.run(made.batches[0])
        first = made.members[0]
        read = made.num_bytes[first].sum(0) / made.lengths[first].sum()
        allowed = PaperReading(setting.lm, grid, made.chosen(first))
        return read, np.array([allowed.of(budget) for budget in budgets])

    return at(read_beyond(statics.group, trial))[0]


def _of_about_one_length(lengths: Sequence[int]) -> list[list[int]]:
    """Numbers of continuations in pieces, whose rows run as many steps as the longest."""
    pieces: list[list[int]] = []
    for number in np.argsort(lengths, kind="stable").tolist():
        if not pieces or lengths[number] > _UNEVEN * lengths[pieces[-1][0]]:
            pieces.append([])
        pieces[-1].append(number)
    return pieces


def _spends(policies: TaskPass) -> list[Budget]:
    return [policies.mean_spend(row) for row in range(1, policies.group)]
