"""Inputs of a job function, and the updates it yields while it works."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.host.paths import DataDir
from storage import JobRecord

__all__ = [
    "JobFinished",
    "JobFunction",
    "JobFunctions",
    "JobNote",
    "JobProgress",
    "JobSample",
    "JobStopped",
    "JobTask",
    "JobUpdate",
]


@dataclass(frozen=True, slots=True)
class JobTask:
    """One start of a job.

    Attributes:
        folder: the job's own; what an earlier start left in it is there again.
        dtype: number format of the model's weights, where the job does not say.
        should_stop: true once the job is to end at its next step, with a checkpoint.
        say: takes a ``JobNote``'s message where nothing can be yielded: in a callback.
    """

    job: JobRecord
    folder: Path
    data_dir: DataDir
    dtype: str
    should_stop: Callable[[], bool]
    say: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class JobNote:
    """Text about the work before there is progress to report."""

    message: str


@dataclass(frozen=True, slots=True)
class JobProgress:
    """Progress of a job.

    Attributes:
        fraction: of the whole job, in [0, 1].
        row: a metric row with its "step"; None when there is nothing to draw.
    """

    fraction: float
    message: str
    eta_s: float | None = None
    row: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class JobSample:
    """Something to look at; only the last few are kept."""

    record: dict[str, Any]


@dataclass(frozen=True, slots=True)
class JobStopped:
    """``should_stop`` was obeyed, and a later start goes on from here."""


@dataclass(frozen=True, slots=True)
class JobFinished:
    """The job is done."""

    result: dict[str, Any]


JobUpdate = JobNote | JobProgress | JobSample | JobStopped | JobFinished
JobFunction = Callable[[JobTask], Generator[JobUpdate, None, None]]
JobFunctions = Mapping[str, JobFunction]  # by the kind of job
