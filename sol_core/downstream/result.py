"""The result of a benchmark as JSON (schema 1).

Accuracies are shares of questions; a gain is policy minus static in points of accuracy, so
above 0 the policy is better. Intervals are 95 % bootstraps over questions, paired for gains.
``spend`` is the mean per axis over all scored steps. A choice's score is the log-likelihood of
its text, per character for HellaSwag and PIQA, whose choices differ much in length; LAMBADA
counts a word as right when every token of it was the most probable one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sol_core.actions import DENSE, Budget
from sol_core.downstream.encoding import Continuation
from sol_core.downstream.passes import PolicyTaskPass, StaticTaskPass
from sol_core.downstream.tasks import Question
from sol_core.evaluation.result import axes_record
from sol_core.evaluation.rollout import Floats
from sol_core.evaluation.statistics import Interval, PairedBootstrap

__all__ = ["SCHEMA", "right_answers", "summary_record", "task_record"]

SCHEMA = 1
_PER_CHARACTER = ("hellaswag", "piqa")


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


def task_record(
    task: str,
    questions: Sequence[Question],
    policies: PolicyTaskPass,
    statics: StaticTaskPass | None,
    seed: int,
) -> dict[str, Any]:
    """One task's accuracy of every method at every budget."""
    bootstrap = PairedBootstrap(len(questions), seed=seed)

    def correct(run: PolicyTaskPass | StaticTaskPass, row: int) -> Floats:
        scores = run.greedy if task == "lambada" else run.log_likelihood
        return right_answers(task, run.setting.continuations, questions, scores[:, row])

    dense = correct(policies, 0)
    chance = [1 / len(question.choices) for question in questions if len(question.choices) > 1]
    budgets = []
    for index, requested in enumerate(policies.setting.budgets):
        policy = correct(policies, 1 + index)
        methods = {"policy": _method(policy, policies.mean_spend(1 + index), bootstrap)}
        record: dict[str, Any] = {
            "requested": axes_record(requested.as_tuple()),
            "methods": methods,
        }
        if statics is not None:
            static = correct(statics, index)
            methods["static"] = _method(static, statics.mean_spend(index), bootstrap)
            record["gain"] = _interval(bootstrap.interval(policy - static))
        budgets.append(record)
    return {
        "task": task,
        "questions": len(questions),
        "steps": int(policies.lengths.sum()),
        "chance": float(np.mean(chance)) if chance else 0.0,
        "dense": _method(dense, Budget(*DENSE.as_tuple()), bootstrap),
        "budgets": budgets,
    }


def summary_record(tasks: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Best and mean gain over all pairs of task and budget; None without static."""
    pairs = [
        (task["task"], budget) for task in tasks for budget in task["budgets"] if "gain" in budget
    ]
    if not pairs:
        return None
    task, best = max(pairs, key=lambda pair: float(pair[1]["gain"]["mean"]))
    return {
        "mean_gain": float(np.mean([budget["gain"]["mean"] for _, budget in pairs])),
        "pairs": len(pairs),
        "better": sum(budget["gain"]["mean"] > 0 for _, budget in pairs),
        "best": {"task": task, "requested": best["requested"], "gain": best["gain"]},
    }


def _method(correct: Floats, spend: Budget, bootstrap: PairedBootstrap) -> dict[str, Any]:
    return {
        "accuracy": _interval(bootstrap.interval(correct)),
        "spend": axes_record(spend.as_tuple()),
        "net_keep_rate": spend.net_keep_rate,
    }


def _interval(interval: Interval) -> dict[str, float]:
    return {"mean": interval.mean, "low": interval.low, "high": interval.high}
