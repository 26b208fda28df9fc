"""The passes over a task: the policy beside the dense model, then what it is compared with."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import groupby
from operator import attrgetter

import numpy as np

from sol_core.actions import AXES, ActionGrid, Budget
from sol_core.budgets.mixes import MixTable
from sol_core.comparing.contenders import Contender
from sol_core.comparing.methods import attention_first, paper_grid, place_on, read_beyond
from sol_core.comparing.rollout import Floats
from sol_core.decoding.batch_scheduling import BatchScheduler, PlannedRows
from sol_core.decoding.cost import NO_POLICY, PolicyReads
from sol_core.evaluation.measurement import Batch
from sol_core.evaluation.stages import ROWS_AT_ONCE, assemble
from sol_core.models import FrozenLM
from sol_core.tasks.plans import PaperReading, SharePlan, StaticPlan
from sol_core.tasks.questions import Continuation, batches
from sol_core.tasks.recall import WRITTEN_TOKENS, is_finished, is_recall
from sol_core.tasks.scoring import (
    BatchScores,
    ReadContexts,
    read_contexts,
    score_after,
    write_after,
)


@dataclass(frozen=True, slots=True)
class TaskSetting:
    """Objects shared by all passes."""

    lm: FrozenLM
    contender: Contender
    task: str
    continuations: Sequence[Continuation]  # of all questions
    budgets: tuple[Budget, ...]  # asked for
    spell: Callable[[Sequence[int]], str]  # the text of token ids
    mixes: MixTable | None  # where budgets are shares of the bytes

    @property
    def name(self) -> str:
        """The task and a hash of its texts."""
        texts = [
            (continuation.context, continuation.tokens, continuation.read)
            for continuation in self.continuations
        ]
        return f"{self.task}-{hashlib.sha256(repr(texts).encode()).hexdigest()[:12]}"

    @property
    def contexts(self) -> list[int]:
        """Per question, tokens before its first step."""
        return [len(choices[-1].context) - 1 for choices in self._by_question()]

    @property
    def lengths(self) -> list[list[int]]:
        """Per question, the steps of each of its choices."""
        return [[len(choice.tokens) for choice in choices] for choices in self._by_question()]

    def _by_question(self) -> Iterator[list[Continuation]]:
        number = attrgetter("question")
        for _, choices in groupby(sorted(self.continuations, key=number), number):
            yield list(choices)


Plan = StaticPlan | SharePlan  # levels of every question's steps, known beforehand
_SCORES = [field.name for field in fields(BatchScores)]
_SAVED = [*_SCORES, "tokens"]
_UNEVEN = 1.5  # steps of the longest continuation of a piece over those of its shortest


class TaskPass:
    """Scores of every continuation under ``group`` rows; filled batch after batch."""

    name, title = "", ""

    def __init__(self, setting: TaskSetting, group: int, grid: ActionGrid) -> None:
        self.setting, self.group, self.grid = setting, group, grid
        self._recalls = is_recall(setting.task)
        self._members = list(batches(setting.continuations, max(1, ROWS_AT_ONCE // group)))
        count = len(setting.continuations)
        self.log_likelihood = np.zeros((count, group))
        self.greedy = np.zeros((count, group))
        self.spend = np.zeros((count, group, len(AXES)))
        self.num_bytes = np.zeros((count, group))
        self.lengths = np.asarray(
            [len(continuation.tokens) for continuation in setting.continuations]
        )
        self.tokens = np.zeros((count, group, WRITTEN_TOKENS * self._recalls))
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
        ones = [self.setting.continuations[index] for index in indices]
        observe = self._scheduler(indices, int(self.lengths[indices].max())).observes
        read = read_contexts(self.setting.lm, ones, self.grid, observe=observe)
        policies = None if self.setting.mixes is None else self._policies()
        for places in _of_about_one_length(self.lengths[indices].tolist()):
            members = [indices[place] for place in places]
            scheduler = self._scheduler(members, int(self.lengths[members].max()))
            rows = read.rows(places)
            scores = score_after(rows, scheduler, group=self.group, policies=policies)
            for name in _SCORES:
                getattr(self, name)[members] = getattr(scores, name)
        if self._recalls:
            self._write(indices, read)

    def _write(self, indices: Sequence[int], read: ReadContexts) -> None:
        """Add a text written after each question, which no spend counts."""
        questions = [continuation.question for continuation in read.ones]
        order = list(dict.fromkeys(questions))
        firsts = [questions.index(question) for question in order]
        writer = self._scheduler([indices[place] for place in firsts], WRITTEN_TOKENS)
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
        """Of one row, over all steps of all continuations."""
        return Budget(*(self.spend[:, row].sum(0) / self.lengths.sum()).tolist())

    def mean_bytes(self, row: int) -> float:
        """Computed bytes that a step of one row reads, over all steps of all continuations."""
        return float(self.num_bytes[:, row].sum() / self.lengths.sum())

    def saved(self, batch: Batch) -> dict[str, Floats]:
        """Return what ``restore`` needs of a batch that has just run."""
        indices = self._members[batch.first]
        return {name: getattr(self, name)[indices] for name in _SAVED}

    def restore(self, batch: Batch, arrays: Mapping[str, Floats]) -> None:
        """Take a batch as run."""
        indices = self._members[batch.first]
        for name in _SAVED:
            getattr(self, name)[indices] = arrays[name]

    def mean_bytes_of(self, batch: Batch) -> Floats:
        """[group] as ``mean_bytes``, over the steps of one batch."""
        indices = self._members[batch.first]
        means: Floats = self.num_bytes[indices].sum(0) / self.lengths[indices].sum()
        return means

    def members(self, batch: Batch) -> list[Continuation]:
        """The continuations of a batch."""
        return [self.setting.continuations[index] for index in self._members[batch.first]]

    def _policies(self) -> tuple[PolicyReads, ...]:
        """Per row, what its policy reads."""
        return (NO_POLICY,) * self.group

    def _work(self, indices: Sequence[int]) -> int:
        """Steps of rows, and prefilled tokens at half of one."""
        ones = [self.setting.continuations[index] for index in indices]
        steps = len(ones) * self.group * max(len(continuation.tokens) for continuation in ones)
        if self._recalls:
            steps += (
                len({continuation.question for continuation in ones}) * self.group * WRITTEN_TOKENS
            )
        shared = {continuation.context[: continuation.shared] for continuation in ones}
        alone = {continuation.context[continuation.shared :] for continuation in ones}
        return steps + sum(map(len, shared | alone)) // 2

    def _scheduler(self, indices: Sequence[int], steps: int) -> BatchScheduler:
        raise NotImplementedError


class PolicyTaskPass(TaskPass):
    """Row 0 is dense, row 1 + n the policy at budget n."""

    title = "running the policy"

    def __init__(self, setting: TaskSetting) -> None:
        super().__init__(setting, 1 + len(setting.budgets), setting.contender.grid)
        self.name = f"{setting.name}-policy"

    def share(self, row: int) -> Budget:
        """Of the dense row's bytes that one row read over all steps, and its mean bits."""
        share = self.mean_bytes(row) / self.mean_bytes(0)
        return Budget.share(min(share, 1.0), self.mean_spend(row).bit_width)

    def _policies(self) -> tuple[PolicyReads, ...]:
        return (NO_POLICY, *[self.setting.contender.reads] * (self.group - 1))

    def _scheduler(self, indices: Sequence[int], steps: int) -> BatchScheduler:
        budgets, count = self.setting.budgets, len(indices)
        rows = [(place, number) for place in range(count) for number in range(len(budgets))]
        scheduler = self.setting.contender.scheduler(budgets * count, None)
        return assemble([(rows, scheduler)], count, self.group)


class PlannedTaskPass(TaskPass):
    """Row n follows plan n, the same one for all choices of a question."""

    def __init__(
        self,
        setting: TaskSetting,
        name: str,
        plans: Sequence[Plan],
        grid: ActionGrid,
    ) -> None:
        super().__init__(setting, len(plans), grid)
        self.name, self.title = f"{setting.name}-{name}", f"running {name}"
        self._plans = plans

    def _scheduler(self, indices: Sequence[int], steps: int) -> BatchScheduler:
        questions = [self.setting.continuations[index].question for index in indices]
        return PlannedRows(
            [plan.actions(number, steps) for number in questions for plan in self._plans]
        )


def static_pass(policies: PolicyTaskPass) -> PlannedTaskPass:
    """Static at what the policy spent at each budget, or at its share of the bytes."""
    setting, grid = policies.setting, policies.grid
    plans: Sequence[Plan]
    if setting.mixes is not None:
        shares = [policies.share(row) for row in range(1, policies.group)]
        of_questions = (setting.contexts, setting.lengths)
        plans = [SharePlan(share, grid, setting.mixes, *of_questions) for share in shares]
        return PlannedTaskPass(setting, "static", plans, grid)
    plans = [StaticPlan(spend, grid, setting.lengths) for spend in _spends(policies)]
    return PlannedTaskPass(setting, "static", plans, grid)


def paper_pass(policies: PolicyTaskPass, statics: PlannedTaskPass) -> PlannedTaskPass:
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
    return PlannedTaskPass(setting, "paper", plans, grid)


def _paper_by_share(
    policies: PolicyTaskPass, statics: PlannedTaskPass, grid: ActionGrid
) -> PlannedTaskPass:
    """Budgets are corrected by what the first batch reads beyond what its actions allow."""
    setting, corners = statics.setting, attention_first(grid)
    reading = PaperReading(setting.lm, grid, setting.continuations)
    bits = [spend.bit_width for spend in _spends(policies)]

    def at(beyond: Floats) -> tuple[PlannedTaskPass, list[Budget]]:
        targets = (statics.mean_bytes(row) - more for row, more in enumerate(beyond.tolist()))
        pairs = zip(bits, targets, strict=True)
        budgets = [place_on(corners, width, target, reading.of) for width, target in pairs]
        plans = [StaticPlan(budget, grid, setting.lengths) for budget in budgets]
        return PlannedTaskPass(setting, "paper", plans, grid), budgets

    def trial(beyond: Floats) -> tuple[Floats, Floats]:
        made, budgets = at(beyond)
        batch = made.batches[0]
        made.run(batch)
        allowed = PaperReading(setting.lm, grid, made.members(batch))
        return made.mean_bytes_of(batch), np.array([allowed.of(budget) for budget in budgets])

    return at(read_beyond(statics.group, trial))[0]


def _of_about_one_length(lengths: Sequence[int]) -> list[list[int]]:
    """The places of continuations in pieces: rows of a piece run as many steps as its longest."""
    pieces: list[list[int]] = []
    for place in np.argsort(lengths, kind="stable").tolist():
        if pieces and lengths[place] <= _UNEVEN * lengths[pieces[-1][0]]:
            pieces[-1].append(place)
        else:
            pieces.append([place])
    return pieces


def _spends(policies: PolicyTaskPass) -> list[Budget]:
    return [policies.mean_spend(row) for row in range(1, policies.group)]
