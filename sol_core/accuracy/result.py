"""The result of the tasks as JSON (schema 3), described in ``docs/formats.md``.

Accuracies are shares of questions; a gain is policy minus static, so above 0 the policy is better.
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
from sol_core.evaluation.statistics import PairedBootstrap, mean_interval
from sol_core.reporting.verdict import Interval

SCHEMA = 3
ABOVE_CHANCE = 0.1  # accuracy of dense over chance, from which a task is pooled as one that tells
_GAINS = ("gain", "nll_gain")
_PER_QUESTION = ("correct", "answer_nll", "margin")  # of ``MethodScores``


def scores_per_byte(
    continuations: Sequence[Continuation], num_questions: int, log_likelihood: Floats
) -> list[list[float]]:
    """Log-likelihood per byte of every choice of every question: [questions][choices]."""
    scores: list[list[float]] = [[] for _ in range(num_questions)]
    for continuation, score in zip(continuations, log_likelihood.tolist(), strict=True):
        scores[continuation.question].append(score / max(1, continuation.num_bytes))
    return scores


def right_answers(scores: Sequence[Sequence[float]], questions: Sequence[Question]) -> Floats:
    """[questions], 1 where the right choice has the highest score."""
    pairs = zip(scores, questions, strict=True)
    return np.asarray([np.argmax(row) == question.answer for row, question in pairs], np.float64)


def margins(scores: Sequence[Sequence[float]], questions: Sequence[Question]) -> Floats:
    """[questions], the right choice's score less the best wrong one's; NaN without a wrong one."""
    gaps = []
    for per_choice, question in zip(scores, questions, strict=True):
        wrong = [score for choice, score in enumerate(per_choice) if choice != question.answer]
        gaps.append(per_choice[question.answer] - max(wrong) if wrong else np.nan)
    return np.asarray(gaps)


@dataclass(frozen=True, slots=True)
class MethodScores:
    """Scores of a method at a budget, question by question; NaN where there is no such number."""

    correct: Floats  # [questions], 1 where it was right
    answer_nll: Floats  # [questions], of the right answer, nats per token
    margin: Floats  # [questions], nats per byte
    spend: Budget
    bytes_per_token: float
    steps: int  # that spend and bytes are means of

    def record(self, seed: int, dense: MethodScores) -> dict[str, Any]:
        return {
            "accuracy": _over_questions(self.correct, seed),
            "over_dense": _over_questions(self.correct - dense.correct, seed),
            "answer_nll": _mean(self.answer_nll),
            "margin": _over_questions(self.margin, seed),
            "spend": axes_record(self.spend.as_tuple()),
            "net_keep_rate": self.spend.net_keep_rate,
            "bytes_per_token": self.bytes_per_token,
            "bytes_share": self.bytes_per_token / dense.bytes_per_token,
        }


@lru_cache(maxsize=2)
def _bootstrap(count: int, seed: int) -> PairedBootstrap:
    """The same resamples for every comparison of as many questions."""
    return PairedBootstrap(count, seed=seed)


def _over_questions(values: Floats, seed: int) -> dict[str, float] | None:
    """Mean and interval over the questions that have a number; None when none has."""
    there = values[~np.isnan(values)]
    return _interval(_bootstrap(len(there), seed).interval(there)) if len(there) else None


@dataclass(frozen=True, slots=True)
class ScoredTask:
    """Scores of every method on one task, in memory."""

    task: str
    requested: tuple[Budget, ...]
    dense: MethodScores
    methods: Sequence[Mapping[str, MethodScores]]  # by name, at each budget
    chance: float  # share of its questions that are right by chance
    seed: int  # of the bootstrap over its questions
    kinds: tuple[str, ...] = ()  # of its questions; "" where they are not told apart

    def record(self) -> dict[str, Any]:
        """Every method at every budget."""
        return {
            "task": self.task,
            "questions": len(self.dense.correct),
            "steps": self.dense.steps,
            "chance": self.chance,
            "dense": self.dense.record(self.seed, self.dense),
            "budgets": _budget_records(self.requested, self.methods, self.dense, self.seed),
            **({"kinds": self._kinds()} if any(self.kinds) else {}),
        }

    def _kinds(self) -> list[dict[str, Any]]:
        """Accuracies of the questions of each kind."""
        records = []
        for kind in dict.fromkeys(self.kinds):
            of_kind = np.asarray([asked == kind for asked in self.kinds])
            dense, *budgets = (
                {name: float(scores.correct[of_kind].mean()) for name, scores in methods.items()}
                for methods in ({"dense": self.dense}, *self.methods)
            )
            count = {"kind": kind, "questions": int(of_kind.sum())}
            records.append({**count, **dense, "budgets": budgets})
        return records

    @property
    def compared(self) -> list[Mapping[str, MethodScores]]:
        """The budgets' methods, where static spent what the policy did."""
        pairs = zip(self.requested, self.methods, strict=True)
        return [arms for asked, arms in pairs if _is_matched(asked, arms, self.dense)]

    def resampled(self) -> tuple[Floats, Floats]:
        """[resamples] mean gain over the compared: in accuracy, and in the answers' NLL."""
        bootstrap = _bootstrap(len(self.dense.correct), self.seed)
        gains = [arms["policy"].correct - arms["static"].correct for arms in self.compared]
        nll = [arms["static"].answer_nll - arms["policy"].answer_nll for arms in self.compared]
        of_accuracy, of_nll = (bootstrap.resampled(np.mean(part, axis=0)) for part in (gains, nll))
        return of_accuracy, of_nll


def _chance(questions: Sequence[Question]) -> float:
    choices = [len(asked.choices) for asked in questions if len(asked.choices) > 1]
    return float(np.mean([1 / count for count in choices])) if choices else 0.0


def _method_scores(run: TaskPass, row: int) -> MethodScores:
    """Scores of one row of a pass that has run, question by question."""
    asked, questions = run.setting.continuations, run.setting.questions
    scores = scores_per_byte(asked, len(questions), run.log_likelihood[:, row])
    right = [n for n, item in enumerate(asked) if item.choice == questions[item.question].answer]
    scored = np.asarray([len(asked[n].tokens) - asked[n].read for n in right])
    by_greedy = run.setting.task == "lambada"
    return MethodScores(
        run.greedy[right, row] if by_greedy else right_answers(scores, questions),
        -run.log_likelihood[right, row] / scored,
        margins(scores, questions),
        run.mean_spend(row),
        run.mean_bytes(row),
        int(run.lengths.sum()),
    )


def task_scores(policies: TaskPass, statics: TaskPass, seed: int) -> ScoredTask:
    """Scores of every method on one task whose passes have run."""
    setting = policies.setting
    methods = [
        {"policy": _method_scores(policies, 1 + n), "static": _method_scores(statics, n)}
        for n in range(len(setting.budgets))
    ]
    dense, chance = _method_scores(policies, 0), _chance(setting.questions)
    kinds = tuple(question.kind for question in setting.questions)
    return ScoredTask(setting.task, setting.budgets, dense, methods, chance, seed, kinds)


def summary_record(scores: Sequence[ScoredTask], tasks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Best and mean gain over all pairs of task and budget at which static's spend matched."""
    pairs = [
        (task["task"], budget)
        for task in tasks
        for budget in task["budgets"]
        if budget["gain"] is not None
    ]
    gains = [budget["gain"] for _, budget in pairs]
    if not pairs:
        nothing = {f"mean_{name}": None for name in _GAINS}
        return nothing | {"pairs": 0, "better": 0, "above": 0, "below": 0, "best": None}
    task, best = max(pairs, key=lambda pair: float(pair[1]["gain"]["mean"]))
    compared = [score for score in scores if score.compared]
    weights = [len(score.compared) for score in compared]
    resampled = np.average([score.resampled() for score in compared], axis=0, weights=weights)
    return {
        **{
            f"mean_{name}": None
            if pairs[0][1][name] is None
            else _interval(
                mean_interval(float(np.mean([budget[name]["mean"] for _, budget in pairs])), means)
            )
            for name, means in zip(_GAINS, resampled, strict=True)
        },
        "pairs": len(pairs),
        "better": sum(gain["mean"] > 0 for gain in gains),
        "above": sum(gain["low"] > 0 for gain in gains),
        "below": sum(gain["high"] < 0 for gain in gains),
        "best": {"task": task, "requested": best["requested"], "gain": best["gain"]},
    }


def pooled_records(scores: Sequence[ScoredTask], seed: int) -> list[dict[str, Any]]:
    """All questions as one: of every task, and of those that dense answers well above chance."""
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


def _joined(parts: Sequence[MethodScores]) -> MethodScores:
    steps = np.asarray([part.steps for part in parts])
    weights = steps / steps.sum()
    spend = weights @ np.asarray([part.spend.as_tuple() for part in parts])
    return MethodScores(
        **{name: np.concatenate([getattr(p, name) for p in parts]) for name in _PER_QUESTION},
        spend=Budget(*np.minimum(spend, DENSE.as_tuple()).tolist()),
        bytes_per_token=float(weights @ np.asarray([part.bytes_per_token for part in parts])),
        steps=int(steps.sum()),
    )


def _budget_records(
    requested: Sequence[Budget],
    methods: Sequence[Mapping[str, MethodScores]],
    dense: MethodScores,
    seed: int,
) -> list[dict[str, Any]]:
    records = []
    for budget, arms in zip(requested, methods, strict=True):
        matched, gain = _is_matched(budget, arms, dense), dict[str, Any]()
        if matched:
            gain = _difference(arms["policy"], arms["static"], seed)
        records.append(
            {
                "requested": asked_record(budget),
                "methods": {
                    name: method.record(seed, dense) | {"matched": matched}
                    for name, method in arms.items()
                },
                "gain": gain.get("accuracy"),
                "nll_gain": gain.get("nll"),
                "margin_gain": gain.get("margin"),
            }
        )
    return records


def _is_matched(requested: Budget, arms: Mapping[str, MethodScores], dense: MethodScores) -> bool:
    """Return whether static spent what the policy did, per axis or in bytes."""
    policy, static = arms["policy"], arms["static"]
    if requested.bytes_share is not None:
        gap = abs(static.bytes_per_token - policy.bytes_per_token) / dense.bytes_per_token
        return gap <= SHARE_TOLERANCE
    gaps = np.subtract(static.spend.as_tuple(), policy.spend.as_tuple())
    return bool((np.abs(gaps) <= np.asarray(SPEND_TOLERANCE) + 1e-9).all())


def _difference(better: MethodScores, worse: MethodScores, seed: int) -> dict[str, Any]:
    return {
        "accuracy": _over_questions(better.correct - worse.correct, seed),
        "margin": _over_questions(better.margin - worse.margin, seed),
        "nll": _over_questions(worse.answer_nll - better.answer_nll, seed),
    }


def _mean(values: Floats) -> float | None:
    there = values[~np.isnan(values)]
    return float(there.mean()) if len(there) else None


def _interval(interval: Interval) -> dict[str, float]:
    """Rounded to what the bootstrap's fp32 holds: an end at 0 must not fall to either side."""
    numbers = {"mean": interval.mean, "low": interval.low, "high": interval.high}
    return {name: round(number, 7) + 0.0 for name, number in numbers.items()}
