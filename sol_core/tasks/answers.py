"""Reads a question's scores: the choice made, and the margin of the right one.

A choice's score is the log-likelihood of its text per byte (acc_norm), so that long answers do not
lose by their length.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sol_core.comparing.rollout import Floats
from sol_core.tasks.encoding import Continuation
from sol_core.tasks.questions import Question


def scores_per_byte(
    continuations: Sequence[Continuation], num_questions: int, log_likelihood: Floats
) -> list[list[float]]:
    """Per question, each choice's log-likelihood per byte of its text.

    Args:
        log_likelihood: [continuations].
    """
    scores: list[list[float]] = [[] for _ in range(num_questions)]
    for continuation, score in zip(continuations, log_likelihood.tolist(), strict=True):
        scores[continuation.question].append(score / max(1, continuation.num_bytes))
    return scores


def right_answers(scores: Sequence[Sequence[float]], questions: Sequence[Question]) -> Floats:
    """[questions], 1 where the right choice has the highest score."""
    pairs = zip(scores, questions, strict=True)
    return np.asarray(
        [float(int(np.argmax(per_choice)) == question.answer) for per_choice, question in pairs]
    )


def margins(scores: Sequence[Sequence[float]], questions: Sequence[Question]) -> Floats:
    """[questions], the right choice's score less the best wrong one's; NaN without a wrong one."""
    gaps = []
    for per_choice, question in zip(scores, questions, strict=True):
        wrong = [score for choice, score in enumerate(per_choice) if choice != question.answer]
        gaps.append(per_choice[question.answer] - max(wrong) if wrong else np.nan)
    return np.asarray(gaps)
