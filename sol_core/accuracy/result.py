"""The result of the tasks as JSON (schema 4), described in ``docs/formats.md``.

Accuracies are fractions of questions; a gain is policy minus static, positive if the policy helps.
Intervals are 95 % bootstraps over questions, paired for gains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from sol_core.accuracy.passes import TaskPass
from sol_core.accuracy.questions import Continuation, Question
from sol_core.actions import DENSE, Budget
from sol_core.evaluation.result import SHARE_TOLERANCE, SPEND_TOLERANCE, asked_record, axes_record
from sol_core.evaluation.rollout import Floats
from sol_core.evaluation.statistics import PairedBootstrap

SCHEMA = 4
ABOVE_CHANCE = 0.1  # least accuracy of dense above chance for an informative task
_PER_QUESTION = ("correct", "answer_nll")  # fields of ``QuestionScores``


def scores_per_byte(
    continuations: Sequence[Continuation], num_questions: int, log_likelihood: Floats
) -> list[list[float]]:
    """Return the log-likelihood per byte of each choice: [questions][choices]."""
    scores: list[list[float]] = [[] for _ in range(num_questions)]
    for continuation, score in zip(continuations, log_likelihood.tolist(), strict=True):
        scores[continuation.question].append(score / max(1, continuation.num_bytes))
    return scores


def right_answers(scores: Sequence[Sequence[float]], questions: Sequence[Question]) -> Floats:
    """Return 1 for questions whose right choice scores highest, else 0: [questions]."""
    pairs = zip(scores, questions, strict=True)
    return np.asarray([np.argmax(row) == question.answer for row, question in pairs], np.float64)


@dataclass(frozen=True, slots=True)
class QuestionScores:
    """Scores of a method at a budget, by question."""

    correct: Floats  # [questions], 1 if right
    answer_nll: Floats  # [questions], NLL of the right answer, nats per token
    spend: Budget
    bytes_per_token: float
    steps: int  # steps behind the means

    def record(self, seed: int, dense: QuestionScores) -> dict[str, Any]:
        """Return the method's means as JSON, with bytes relative to the dense model."""
        return {
            "accuracy": _over_questions(self.correct, seed),
            "answer_nll": float(self.answer_nll.mean()),
            "spend": axes_record(self.spend.as_tuple()),
            "net_keep_rate": self.spend.net_keep_rate,
            "bytes_per_token": self.bytes_per_token,
            "bytes_share": self.bytes_per_token / dense.bytes_per_token,
        }


@lru_cache(maxsize=2)
def _bootstrap(count: int, seed: int) -> PairedBootstrap:
    """Return cached resamples for comparisons of as many questions."""
    return PairedBootstrap(count, seed=seed)


def _over_questions(values: Floats, seed: int) -> dict[str, float]:
    """Return mean and interval, rounded to the bootstrap's fp32 so that an end at 0 stays 0."""
    interval = _bootstrap(len(values), seed).interval(values)
    numbers = {"mean": interval.mean, "low": interval.low, "high": interval.high}
    return {name: round(number, 7) + 0.0 for name, number in numbers.items()}


@dataclass(frozen=True, slots=True)
class ScoredTask:
    """Scores of every method on one task."""

    task: str
    requested: tuple[Budget, ...]
    dense: QuestionScores
    methods: Sequence[Mapping[str, QuestionScores]]  # per budget, by name
    chance: float  # expected accuracy by chance
    seed: int  # seed of the bootstrap

    def record(self) -> dict[str, Any]:
        """Return the task's record: every method at every budget."""
        return {
            "task": self.task,
            "questions": len(self.dense.correct),
            "steps": self.dense.steps,
            "chance": self.chance,
            "dense": self.dense.record(self.seed, self.dense),
            "budgets": _budget_records(self.requested, self.methods, self.dense, self.seed),
        }


def _chance(questions: Sequence[Question]) -> float:
    choices = [len(asked.choices) for asked in questions if len(asked.choices) > 1]
    return float(np.mean([1 / count for count in choices])) if choices else 0.0


def _method_scores(run: TaskPass, row: int) -> QuestionScores:
    """Return one row's scores of a finished pass, by question."""
    asked, questions = run.setting.continuations, run.setting.questions
    scores = scores_per_byte(asked, len(questions), run.log_likelihood[:, row])
    right = [n for n, item in enumerate(asked) if item.choice == questions[item.question].answer]
    scored = np.asarray([len(asked[n].tokens) - asked[n].read for n in right])
    by_greedy = run.setting.task == "lambada"
    return QuestionScores(
        run.greedy[right, row] if by_greedy else right_answers(scores, questions),
        -run.log_likelihood[right, row] / scored,
        run.mean_spend(row),
        run.mean_bytes(row),
        int(run.lengths.sum()),
    )


def task_scores(policies: TaskPass, statics: TaskPass, seed: int) -> ScoredTask:
    """Return every method's scores on one task whose passes have finished."""
    setting = policies.setting
    methods = [
        {"policy": _method_scores(policies, 1 + n), "static": _method_scores(statics, n)}
        for n in range(len(setting.budgets))
    ]
    dense, chance = _method_scores(policies, 0), _chance(setting.questions)
    return ScoredTask(setting.task, setting.budgets, dense, methods, chance, seed)


def pooled_records(scores: Sequence[ScoredTask], seed: int) -> list[dict[str, Any]]:
    """Pool the questions of all tasks, and of those that dense answers well above chance."""
    telling = [task for task in scores if task.dense.correct.mean() - task.chance >= ABOVE_CHANCE]
    groups = [scores] if telling == list(scores) else [scores, telling]
    return [_pooled(group, seed) for group in groups if len(group) > 1]


def _pooled(scores: Sequence[ScoredTask], seed: int) -> dict[str, Any]:
    methods = [
        {name: _joined([task.methods[n][name] for task in scores]) for name in of_first}
        for n, of_first in enumerate(scores[0].methods)
    ]
    dense = _joined([task.dense for task in scores])
    return {
        "tasks": [score.task for score in scores],
        "questions": len(dense.correct),
        "dense": dense.record(seed, dense),
        "budgets": _budget_records(scores[0].requested, methods, dense, seed),
    }


def _joined(parts: Sequence[QuestionScores]) -> QuestionScores:
    steps = np.asarray([part.steps for part in parts])
    weights = steps / steps.sum()
    spend = weights @ np.asarray([part.spend.as_tuple() for part in parts])
    return QuestionScores(
        **{name: np.concatenate([getattr(p, name) for p in parts]) for name in _PER_QUESTION},
        spend=Budget(*np.minimum(spend, DENSE.as_tuple()).tolist()),
        bytes_per_token=float(weights @ np.asarray([part.bytes_per_token for part in parts])),
        steps=int(steps.sum()),
    )


def _budget_records(
    requested: Sequence[Budget],
    methods: Sequence[Mapping[str, QuestionScores]],
    dense: QuestionScores,
    seed: int,
) -> list[dict[str, Any]]:
    records = []
    for budget, arms in zip(requested, methods, strict=True):
        policy, static = arms["policy"], arms["static"]
        gain, nll_gain = None, None
        if matched := _is_matched(budget, arms, dense):
            gain = _over_questions(policy.correct - static.correct, seed)
            nll_gain = _over_questions(static.answer_nll - policy.answer_nll, seed)
        records.append(
            {
                "requested": asked_record(budget),
                "methods": {
                    name: method.record(seed, dense) | {"matched": matched}
                    for name, method in arms.items()
                },
                "gain": gain,
                "nll_gain": nll_gain,
            }
        )
    return records


def _is_matched(
    requested: Budget, arms: Mapping[str, QuestionScores], dense: QuestionScores
) -> bool:
    """Return whether static spent as much as the policy, per axis or in bytes."""
    policy, static = arms["policy"], arms["static"]
    if requested.bytes_share is not None:
        gap = abs(static.bytes_per_token - policy.bytes_per_token) / dense.bytes_per_token
        return gap <= SHARE_TOLERANCE
    gaps = np.subtract(static.spend.as_tuple(), policy.spend.as_tuple())
    return bool((np.abs(gaps) <= np.asarray(SPEND_TOLERANCE) + 1e-9).all())
