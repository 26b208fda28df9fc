"""Saved job: the record that the app sees.

A job is work that a worker process does in the background. Its row says how far it is; its
metric rows and samples are what the page draws.
"""

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
    """One job.

    Attributes:
        id: hex digits, random; also names the job's folder and log file.
        params: what the job was asked to do, as JSON.
        progress: share of the work that is done, in [0, 1].
        message: what is being done, in the user's words.
        eta_s: estimate of the seconds left; None while unknown or not running.
        result: what the job made, as JSON; None until it succeeded.
        error: what went wrong, in the user's words; None when nothing did.
        log_file: absolute path; None before the first start.
        worker: id of the process that runs it, or ran it last; None before the first start.
        control: what the user wishes of the running job.
        created_at, started_at, heartbeat_at, finished_at, updated_at: aware, UTC; started_at is
            the first start, finished_at the end, and None when it goes on again.
        seq: order of creation.
        data_dir_id: of the folder where its files are; "" for jobs that are older than such ids.
        damage: why parts of the row cannot be read, which are then empty; None when all can.
    """

    id: str
    kind: JobKind
    owner: str
    title: str
    status: JobStatus
    params: Record
    progress: float
    message: str
    eta_s: float | None
    result: Record | None
    error: str | None
    log_file: str | None
    worker: str | None
    control: JobControl
    created_at: datetime
    started_at: datetime | None
    heartbeat_at: datetime | None
    finished_at: datetime | None
    updated_at: datetime
    seq: int
    data_dir_id: str = ""
    damage: str | None = None

    @property
    def has_ended(self) -> bool:
        """Return whether nothing more happens unless somebody resumes it."""
        return self.status in ENDED_STATUSES
