"""The passes over a task: the policy beside the dense model, then static at the same spend.

Static uses the same levels for all choices of a question. If mixing continued from choice to
choice, the choices' ranking would partly reflect their levels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby, product
from operator import attrgetter

import numpy as np

from sol_core.accuracy.questions import Continuation, Question, batches
from sol_core.accuracy.scoring import read_contexts, score_after
from sol_core.actions import AXES, Action, ActionGrid, Budget
from sol_core.budgets.mixes import Mix, MixTable
from sol_core.decoding.batch_scheduling import BatchScheduler, PlannedRows
from sol_core.decoding.schedules import StaticSchedule
from sol_core.evaluation.contenders import Contender
from sol_core.evaluation.measurement import Batch
from sol_core.evaluation.passes import ROWS_AT_ONCE, assemble
from sol_core.evaluation.rollout import Floats
from sol_core.models import FrozenLM


@dataclass(frozen=True, slots=True)
class TaskSetting:
    """Objects shared by all passes."""

    lm: FrozenLM
    contender: Contender
    task: str
    questions: Sequence[Question]
    continuations: Sequence[Continuation]  # all questions'
    budgets: tuple[Budget, ...]  # requested
    mixes: MixTable | None  # if budgets are shares of the bytes

    @property
    def name(self) -> str:
        """Return the task and a hash of its texts."""
        texts = [(item.context, item.tokens, item.read) for item in self.continuations]
        return f"{self.task}-{hashlib.sha256(repr(texts).encode()).hexdigest()[:12]}"

    @property
    def contexts(self) -> list[int]:
        """Return the tokens before the first step of each question."""
        return [len(choices[-1].context) - 1 for choices in self._by_question()]

    @property
    def lengths(self) -> list[list[int]]:
        """Return the steps of each choice of each question."""
        return [[len(choice.tokens) for choice in choices] for choices in self._by_question()]

    def _by_question(self) -> Iterator[list[Continuation]]:
        for _, choices in groupby(self.continuations, attrgetter("question")):
            yield list(choices)


class StaticPlan:
    """Static's actions for a task: one sequence, in which each question has a range."""

    def __init__(self, spend: Budget, grid: ActionGrid, lengths: Sequence[Sequence[int]]) -> None:
        longest = [max(steps) for steps in lengths]
        ends = list(accumulate(longest))
        scheduler = StaticSchedule(spend, grid)
        self._actions = [scheduler.at(step) for step in range(ends[-1] + CANDIDATES)]
        spread = np.asarray([levels[-1] - levels[0] for levels in grid.levels()])
        spends = np.asarray([action.as_tuple() for action in self._actions])
        # Cumulative excess over the mean, as a fraction of the axis.
        surplus = np.cumsum((spends - spend.as_tuple()) / spread, axis=0)
        surplus = np.concatenate((np.zeros((1, len(AXES))), surplus))
        self._starts = []
        carried = np.zeros(len(AXES))
        for end, most, steps in zip(ends, longest, lengths, strict=True):
            starts = end - most + np.arange(CANDIDATES)
            after = carried + sum(surplus[starts + count] - surplus[starts] for count in steps)
            best = int(np.abs(after).max(-1).argmin())
            carried = after[best]
            self._starts.append(int(starts[best]))

    def actions(self, question: int, steps: int) -> list[Action]:
        """Return the actions of a choice's first ``steps`` steps, padded with the last."""
        start = self._starts[question]
        planned = self._actions[start : start + steps]
        return planned + planned[-1:] * (steps - len(planned))


class SharePlan:
    """Static's actions at a share: each step takes one of two neighbouring mixes, so that all
    choices together meet it."""

    def __init__(
        self,
        budget: Budget,
        grid: ActionGrid,
        mixes: MixTable,
        contexts: Sequence[int],
        lengths: Sequence[Sequence[int]],
    ) -> None:
        assert budget.bytes_share is not None
        self._share, self._mixes, self._contexts = budget.bytes_share, mixes, contexts
        self._lengths = lengths
        self._bits = StaticSchedule(Budget(bit_width=budget.bit_width), grid)
        self._begins: list[tuple[float, int]] = []  # excess and steps before each question
        excess, steps = 0.0, 0
        for question, of_choices in enumerate(lengths):
            self._begins.append((excess, steps))
            for mix, running in self._mixes_of(question, max(of_choices)):
                excess += running * (mix.share - self._share)
            steps += max(of_choices)

    def actions(self, question: int, steps: int) -> list[Action]:
        """Return the actions of the first ``steps`` steps, equal for a question's choices."""
        begin = self._begins[question][1]
        return [
            Action(
                mix.action.keep_fraction,
                mix.action.channel_keep_ratio,
                self._bits.at(begin + step).bit_width,
            )
            for step, (mix, _) in enumerate(self._mixes_of(question, steps))
        ]

    def _mixes_of(self, question: int, steps: int) -> list[tuple[Mix, int]]:
        """Return each step's mix, and the number of choices that have this step."""
        excess, mixes = self._begins[question][0], []
        for step in range(steps):
            running = sum(length > step for length in self._lengths[question])
            pair = self._mixes.neighbours(self._share, self._contexts[question] + step + 1)
            weight = max(running, 1)
            low, high = (abs(excess + weight * (mix.share - self._share)) for mix in pair)
            mix = pair[1] if high <= low else pair[0]
            excess += weight * (mix.share - self._share)
            mixes.append((mix, running))
        return mixes


_SAVED = ("log_likelihood", "greedy", "spend", "num_bytes")
CANDIDATES = 16  # starts tried per question
_UNEVEN = 1.5  # largest ratio of lengths within a group


class TaskPass:
    """Scores of each continuation under ``group`` rows, filled batch by batch."""

    def __init__(
        self,
        setting: TaskSetting,
        name: str,
        grid: ActionGrid,
        group: int,  # rows per continuation
        schedule: Callable[[list[int], int], BatchScheduler],  # takes questions and steps
    ) -> None:
        self.setting, self.group, self.grid = setting, group, grid
        self.name = f"{setting.name}-{name}"
        self._title = f"{setting.task}: running {'the policy' if name == 'policy' else name}"
        self._schedule = schedule
        self.members = list(batches(setting.continuations, max(1, ROWS_AT_ONCE // group)))
        count = len(setting.continuations)
        self.log_likelihood, self.greedy, self.num_bytes = np.zeros((3, count, group))
        self.spend = np.zeros((count, group, len(AXES)))
        self.lengths = np.asarray([len(item.tokens) for item in setting.continuations])
        self.batches = [
            Batch(number, len(indices), self._work(indices))
            for number, indices in enumerate(self.members)
        ]

    def message(self, batch: Batch) -> str:
        return self._title

    def run(self, batch: Batch) -> None:
        """Score a batch of continuations under all rows."""
        indices = self.members[batch.first]
        observe = self._scheduler(indices, int(self.lengths[indices].max())).observes
        read = read_contexts(self.setting.lm, self._chosen(indices), self.grid, observe=observe)
        exact = self.setting.mixes is not None
        for numbers in _of_about_one_length(self.lengths[indices].tolist()):
            members = [indices[number] for number in numbers]
            scheduler = self._scheduler(members, int(self.lengths[members].max()))
            rows = read.rows(numbers)
            scores = score_after(rows, scheduler, group=self.group, exact=exact)
            for name, values in scores._asdict().items():
                getattr(self, name)[members] = values

    def mean_spend(self, row: int) -> Budget:
        """Return a row's mean spend over all steps of all continuations."""
        return Budget(*(self.spend[:, row].sum(0) / self.lengths.sum()).tolist())

    def mean_bytes(self, row: int) -> float:
        """Return a row's mean bytes per step over all continuations."""
        return float(self.num_bytes[:, row].sum() / self.lengths.sum())

    def share(self, row: int) -> Budget:
        """Return a row's bytes as a share of row 0's, and its mean bits."""
        share = self.mean_bytes(row) / self.mean_bytes(0)
        return Budget.share(min(share, 1.0), self.mean_spend(row).bit_width)

    def saved(self, batch: Batch) -> dict[str, Floats]:
        indices = self.members[batch.first]
        return {name: getattr(self, name)[indices] for name in _SAVED}

    def restore(self, batch: Batch, arrays: Mapping[str, Floats]) -> None:
        indices = self.members[batch.first]
        for name in _SAVED:
            getattr(self, name)[indices] = arrays[name]

    def _chosen(self, indices: Sequence[int]) -> list[Continuation]:
        return [self.setting.continuations[index] for index in indices]

    def _work(self, indices: Sequence[int]) -> int:
        """Estimate the work: steps of rows, plus half a step per prefilled token."""
        chosen = self._chosen(indices)
        steps = len(chosen) * self.group * max(len(item.tokens) for item in chosen)
        return steps + sum(map(len, {item.context for item in chosen})) // 2

    def _scheduler(self, indices: Sequence[int], steps: int) -> BatchScheduler:
        return self._schedule([item.question for item in self._chosen(indices)], steps)


def policy_pass(setting: TaskSetting) -> TaskPass:
    """Make the policy's pass: row 0 is dense, row 1 + n the policy at budget n."""
    budgets, contender = setting.budgets, setting.contender
    group, contexts = 1 + len(budgets), setting.contexts

    def schedule(questions: list[int], steps: int) -> BatchScheduler:
        count = len(questions)
        rows = list(product(range(count), range(len(budgets))))
        before = [contexts[number] for number in questions for _ in budgets]
        scheduler = contender.make_scheduler(budgets * count, before)
        return assemble([(rows, scheduler)], count, group)

    return TaskPass(setting, "policy", contender.grid, group, schedule)


def static_pass(policies: TaskPass) -> TaskPass:
    """Make static's pass at the policy's spend or share of the bytes."""
    setting, grid = policies.setting, policies.grid
    plans: list[StaticPlan | SharePlan] = []
    for row in range(1, policies.group):
        if setting.mixes is None:
            plans.append(StaticPlan(policies.mean_spend(row), grid, setting.lengths))
        else:
            share, of_questions = policies.share(row), (setting.contexts, setting.lengths)
            plans.append(SharePlan(share, grid, setting.mixes, *of_questions))

    def schedule(questions: list[int], steps: int) -> BatchScheduler:
        return PlannedRows([plan.actions(number, steps) for number in questions for plan in plans])

    return TaskPass(setting, "static", grid, len(plans), schedule)


def _of_about_one_length(lengths: Sequence[int]) -> list[list[int]]:
    """Group continuations of similar length by index; a group runs as long as its longest."""
    pieces: list[list[int]] = []
    for number in np.argsort(lengths, kind="stable").tolist():
        if not pieces or lengths[number] > _UNEVEN * lengths[pieces[-1][0]]:
            pieces.append([])
        pieces[-1].append(number)
    return pieces
