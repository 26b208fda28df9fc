"""Saved job: work that a worker process does in the background."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from storage.records import Record

# "benchmark" is the stored word of accuracy on tasks, ``TASKS_JOB``: databases of all releases
# have it, and workers of two releases may share one.
JobKind = Literal["train", "evaluate", "benchmark"]
TASKS_JOB: JobKind = "benchmark"
# paused: checkpointed and released at the user's wish; abandoned: its worker died.
JobStatus = Literal["queued", "running", "paused", "succeeded", "failed", "cancelled", "abandoned"]
# The user's request to a running job, which its worker reads with every heartbeat.
JobControl = Literal["run", "pause", "cancel"]

JOB_KINDS: tuple[str, ...] = get_args(JobKind)
JOB_STATUSES: tuple[str, ...] = get_args(JobStatus)
ENDED_STATUSES = ("succeeded", "failed", "cancelled", "abandoned")
RESUMABLE_STATUSES = ("paused", "failed", "cancelled", "abandoned")


@dataclass(frozen=True, slots=True)
class JobRecord:
    """One job. Times are aware, UTC."""

    id: str  # hex digits, random; also names the job's folder and log file
    kind: JobKind
    owner: str
    title: str
    status: JobStatus
    params: Record  # what the job was asked to do, as JSON
    progress: float  # share of the work that is done, in [0, 1]
    message: str  # what is being done, in the user's words
    eta_s: float | None  # seconds left, estimated; None while unknown or not running
    result: Record | None  # as JSON; None until it succeeded
    error: str | None  # in the user's words
    log_file: str | None  # absolute path; None before the first start, as worker
    worker: str | None  # id of the process that runs it, or ran it last
    control: JobControl  # what the user wishes of the running job
    created_at: datetime
    started_at: datetime | None  # the first time
    heartbeat_at: datetime | None
    finished_at: datetime | None  # None when it goes on again
    updated_at: datetime
    seq: int  # order of creation
    data_dir_id: str = ""  # of the folder where its files are; "" for jobs older than such ids
    damage: str | None = None  # why parts of the row cannot be read, which are then empty

    @property
    def has_ended(self) -> bool:
        """Return whether nothing more happens unless somebody resumes it."""
        return self.status in ENDED_STATUSES
