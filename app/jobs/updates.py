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


JobUpdate = JobNote | WorkEvent
JobFunction = Callable[[JobTask], Generator[JobUpdate, None, None]]
JobFunctions = Mapping[str, JobFunction]  # by the kind of job
