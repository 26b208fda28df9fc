"""Events of a running benchmark: frozen records, JSON-ready."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["BenchmarkEvent", "BenchmarkFinished", "BenchmarkProgress"]


@dataclass(frozen=True, slots=True)
class BenchmarkProgress:
    """One report.

    Attributes:
        fraction: of the whole benchmark, in [0, 1]; never falls.
        message: what is being done, for people.
        eta_s: estimate of the seconds left; None while unknown.
    """

    fraction: float
    message: str
    eta_s: float | None


@dataclass(frozen=True, slots=True)
class BenchmarkFinished:
    """The result, JSON-ready; its form is described in ``result.py``."""

    result: dict[str, Any]


BenchmarkEvent = BenchmarkProgress | BenchmarkFinished
