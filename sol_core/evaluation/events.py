"""Events of a running evaluation: frozen records, JSON-ready."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["EvaluationEvent", "EvaluationFinished", "EvaluationProgress"]


@dataclass(frozen=True, slots=True)
class EvaluationProgress:
    """One report.

    Attributes:
        fraction: of the whole evaluation, in [0, 1]; never falls.
        message: what is being done, for people.
        eta_s: estimate of the seconds left; None while unknown.
        partial: means so far: ``{"texts", "budgets": [{"requested", "methods": {NAME:
            {"nll", "kl"}}}]}``; empty before the first text is done.
    """

    fraction: float
    message: str
    eta_s: float | None
    partial: dict[str, Any]


@dataclass(frozen=True, slots=True)
class EvaluationFinished:
    """The result, JSON-ready; its form is described in ``result.py``."""

    result: dict[str, Any]


EvaluationEvent = EvaluationProgress | EvaluationFinished
