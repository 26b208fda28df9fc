"""Inputs of a job function, and the updates it yields while it works."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path

from app.host.paths import DataDir
from sol_core.progress import WorkEvent
from storage import JobRecord


@dataclass(frozen=True, slots=True)
class JobTask:
    """One start of a job."""

    job: JobRecord
    folder: Path  # the job's own; what an earlier start left in it is there again
    data_dir: DataDir
    dtype: str  # of the model's weights, where the job does not say
    should_stop: Callable[[], bool]  # at its next step, with a checkpoint
    say: Callable[[str], None]  # a ``JobNote``'s message where nothing can be yielded


@dataclass(frozen=True, slots=True)
class JobNote:
    """Text about the work before there is progress to report."""

    message: str


JobUpdate = JobNote | WorkEvent
JobFunction = Callable[[JobTask], Generator[JobUpdate, None, None]]
JobFunctions = Mapping[str, JobFunction]  # by the kind of job
