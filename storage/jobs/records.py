"""Saved job: the record that the app sees and the tables it is kept in.

A job is work that a worker process does in the background. Its row says how far it is; its
metric rows and samples are what the page draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args

from sqlalchemy import BigInteger, Column, Float, LargeBinary, MetaData, Row, String, Table

from storage.codec import RowReader
from storage.records import Record

__all__ = [
    "ENDED_STATUSES",
    "JOB_KINDS",
    "JOB_STATUSES",
    "RESUMABLE_STATUSES",
    "TASKS_JOB",
    "JobControl",
    "JobKind",
    "JobRecord",
    "JobStatus",
    "job_metrics_table",
    "job_record_of",
    "job_samples_table",
    "jobs_table",
]

# "benchmark" is the stored word of accuracy on tasks, ``TASKS_JOB``: databases of all releases
# have it, and workers of two releases may share one.
JobKind = Literal["train", "evaluate", "benchmark"]
TASKS_JOB: JobKind = "benchmark"
# paused: checkpointed and released at the user's wish; abandoned: its worker died.
JobStatus = Literal["queued", "running", "paused", "succeeded", "failed", "cancelled", "abandoned"]
# What the user wishes of a running job; its worker reads it with every heartbeat.
JobControl = Literal["run", "pause", "cancel"]

JOB_KINDS: tuple[str, ...] = get_args(JobKind)
JOB_STATUSES: tuple[str, ...] = get_args(JobStatus)
ENDED_STATUSES = ("succeeded", "failed", "cancelled", "abandoned")
RESUMABLE_STATUSES = ("paused", "failed", "cancelled", "abandoned")

_metadata = MetaData()

# The migrations create these tables; here are only the columns that the queries name.
jobs_table = Table(
    "jobs",
    _metadata,
    Column("seq", BigInteger, primary_key=True),
    Column("id", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("owner", LargeBinary, nullable=False),
    Column("title", LargeBinary, nullable=False),
    Column("status", String, nullable=False),
    Column("control", String, nullable=False),
    Column("params", LargeBinary, nullable=False),
    Column("progress", Float, nullable=False),
    Column("message", LargeBinary, nullable=False),
    Column("eta_s", Float),
    Column("result", LargeBinary),
    Column("error", LargeBinary),
    Column("log_file", LargeBinary),
    Column("worker", String),
    Column("created_us", BigInteger, nullable=False),
    Column("started_us", BigInteger),
    Column("heartbeat_us", BigInteger),
    Column("finished_us", BigInteger),
    Column("updated_us", BigInteger, nullable=False),
    Column("data_dir_id", String, nullable=False),
    Column("claimed_us", BigInteger),
)
job_metrics_table = Table(
    "job_metrics",
    _metadata,
    Column("job_id", String, primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("step", BigInteger, nullable=False),
    Column("record", LargeBinary, nullable=False),
)
job_samples_table = Table(
    "job_samples",
    _metadata,
    Column("job_id", String, primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("record", LargeBinary, nullable=False),
)


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


def job_record_of(row: Row[Any]) -> JobRecord:
    reader = RowReader()

    def time_or_none(microseconds: int | None) -> datetime | None:
        return None if microseconds is None else reader.time(microseconds)

    return JobRecord(
        id=row.id,
        kind=row.kind,
        owner=reader.text(row.owner),
        title=reader.text(row.title),
        status=row.status,
        params=reader.json(row.params),
        progress=row.progress,
        message=reader.text(row.message),
        eta_s=row.eta_s,
        result=None if row.result is None else reader.json(row.result),
        error=None if row.error is None else reader.text(row.error),
        log_file=None if row.log_file is None else reader.text(row.log_file),
        worker=row.worker,
        control=row.control,
        created_at=reader.time(row.created_us),
        started_at=time_or_none(row.started_us),
        heartbeat_at=time_or_none(row.heartbeat_us),
        finished_at=time_or_none(row.finished_us),
        updated_at=reader.time(row.updated_us),
        seq=row.seq,
        data_dir_id=row.data_dir_id,
        damage=reader.damage,
    )
