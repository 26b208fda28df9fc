"""The result of the tasks as JSON (schema 2).

Accuracies are shares of questions; a gain is policy minus static in points of accuracy, so
above 0 the policy is better. ``answer_nll`` is the mean NLL of the right answer, nats per token
of it: few questions change sides, but every answer has a likelihood, so its gain (static minus
policy) shows with far fewer questions. Intervals are 95 % bootstraps over questions, paired for
gains. ``spend`` is the mean per axis over all scored steps. A choice's score is the
log-likelihood of its text, per character for HellaSwag and PIQA, whose choices differ much in
length; LAMBADA counts a word as right when every token of it was the most probable one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sol_core.actions import Budget
from sol_core.comparing.rollout import Floats
from sol_core.comparing.statistics import Interval, PairedBootstrap, mean_interval
from sol_core.evaluation.result import axes_record
from sol_core.tasks.encoding import Continuation
from sol_core.tasks.passes import PolicyTaskPass, StaticTaskPass, TaskPass
from sol_core.tasks.questions import Question

__all__ = ["SCHEMA", "TaskScores", "right_answers", "summary_record"]

SCHEMA = 2
_PER_CHARACTER = ("hellaswag", "piqa")
_GAINS = ("gain", "nll_gain")


def right_answers(
    task: str, continuations: Sequence[Continuation], questions: Sequence[Question], scores: Floats
) -> Floats:
    """[questions], 1 where the right choice has the highest score.

    Args:
        scores: [continuations] log-likelihoods, or for LAMBADA whether it was predicted.
    """
    if task == "lambada":
        return scores.copy()
    by_question: dict[int, list[float]] = {}
    for one, score in zip(continuations, scores.tolist(), strict=True):
        per = max(1, one.characters) if task in _PER_CHARACTER else 1
        by_question.setdefault(one.question, []).append(score / per)
    return np.asarray(
        [
            float(int(np.argmax(by_question[number])) == question.answer)
            for number, question in enumerate(questions)
        ]
    )


@dataclass(frozen=True, slots=True)
class _Method:
    """One method at one budget.

    Attributes:
        correct: [questions], 1 where it was right.
        answer_nll: [questions], of the right answer, nats per token.
    """

    correct: Floats
    answer_nll: Floats
    spend: Budget

    def record(self, bootstrap: PairedBootstrap) -> dict[str, Any]:
        return {
            "accuracy": _interval(bootstrap.interval(self.correct)),
            "answer_nll": float(self.answer_nll.mean()),
            "spend": axes_record(self.spend.as_tuple()),
            "net_keep_rate": self.spend.net_keep_rate,
        }


class TaskScores:
    """Scores of every method on one task.

    Args:
        seed: of the bootstrap over its questions.
    """

    def __init__(
        self,
        task: str,
        questions: Sequence[Question],
        policies: PolicyTaskPass,
        statics: StaticTaskPass,
        seed: int,
    ) -> None:
        self.task, self._questions, self._steps = task, questions, int(policies.lengths.sum())
        self._requested = policies.setting.budgets
        self._bootstrap = PairedBootstrap(len(questions), seed=seed)
        self._dense = self._method(policies, 0)
        budgets = range(len(self._requested))
        self._policies = [self._method(policies, 1 + n) for n in budgets]
        self._statics = [self._method(statics, n) for n in budgets]

    def record(self) -> dict[str, Any]:
        """Accuracy and likelihood of every method at every budget."""
        choices = [len(one.choices) for one in self._questions if len(one.choices) > 1]
        gains = zip(self._gains(), self._nll_gains(), strict=True)
        pairs = zip(self._requested, self._policies, self._statics, gains, strict=True)
        return {
            "task": self.task,
            "questions": len(self._questions),
            "steps": self._steps,
            "chance": float(np.mean([1 / count for count in choices])) if choices else 0.0,
            "dense": self._dense.record(self._bootstrap),
            "budgets": [
                {
                    "requested": axes_record(requested.as_tuple()),
                    "methods": {
                        "policy": policy.record(self._bootstrap),
                        "static": static.record(self._bootstrap),
                    },
                    "gain": _interval(self._bootstrap.interval(gain)),
                    "nll_gain": _interval(self._bootstrap.interval(nll_gain)),
                }
                for requested, policy, static, (gain, nll_gain) in pairs
            ],
        }

    def resampled(self) -> tuple[Floats, Floats]:
        """[resamples] mean gain over the budgets: in accuracy, and in the answers' NLL."""
        return (
            self._bootstrap.resampled(np.mean(self._gains(), axis=0)),
            self._bootstrap.resampled(np.mean(self._nll_gains(), axis=0)),
        )

    def _gains(self) -> list[Floats]:
        pairs = zip(self._policies, self._statics, strict=True)
        return [policy.correct - static.correct for policy, static in pairs]

    def _nll_gains(self) -> list[Floats]:
        pairs = zip(self._policies, self._statics, strict=True)
        return [static.answer_nll - policy.answer_nll for policy, static in pairs]

    def _method(self, run: TaskPass, row: int) -> _Method:
        ones = run.setting.continuations
        answers = [question.answer for question in self._questions]
        right = [n for n, one in enumerate(ones) if one.choice == answers[one.question]]
        scores = run.greedy if self.task == "lambada" else run.log_likelihood
        return _Method(
            right_answers(self.task, ones, self._questions, scores[:, row]),
            -run.log_likelihood[right, row] / run.lengths[right],
            run.mean_spend(row),
        )


def summary_record(scores: Sequence[TaskScores], tasks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Best and mean gain over all pairs of task and budget.

    Args:
        tasks: the record of each of ``scores``.
    """
    pairs = [(task["task"], budget) for task in tasks for budget in task["budgets"]]
    gains = [budget["gain"] for _, budget in pairs]
    task, best = max(pairs, key=lambda pair: float(pair[1]["gain"]["mean"]))
    resampled = np.mean([one.resampled() for one in scores], axis=0)
    means = [np.mean([budget[name]["mean"] for _, budget in pairs]) for name in _GAINS]
    return {
        **{
            f"mean_{name}": _interval(mean_interval(float(mean), found))
            for name, mean, found in zip(_GAINS, means, resampled, strict=True)
        },
        "pairs": len(pairs),
        "better": sum(gain["mean"] > 0 for gain in gains),
        "above": sum(gain["low"] > 0 for gain in gains),
        "below": sum(gain["high"] < 0 for gain in gains),
        "best": {"task": task, "requested": best["requested"], "gain": best["gain"]},
    }


def _interval(interval: Interval) -> dict[str, float]:
    return {"mean": interval.mean, "low": interval.low, "high": interval.high}
