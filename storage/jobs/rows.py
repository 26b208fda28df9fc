"""Operations on job rows inside a transaction that the caller holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Select, func, select, update

from storage.codec import decode_time, encode_text, read_row
from storage.dialects.expressions import now_us
from storage.errors import JobStateError
from storage.jobs.records import ENDED_STATUSES, JobRecord, JobStatus
from storage.schema import jobs_table
from storage.statements import change_row, find_row, require_row

ABANDONED_ERROR = (
    "The process that ran this job ended before the job did. "
    "Resume continues from the last checkpoint."
)
# Given a worker id: does its process live? None when that cannot be known here.
IsAlive = Callable[[str], bool | None]


def claim_next(connection: Connection, worker: str, data_dir_id: str) -> JobRecord | None:
    """Make the next queued job this worker's by one conditional UPDATE; None without one.

    Next is the oldest job of the owner whose last turn is longest ago.
    """
    last = func.max(jobs_table.c.claimed_us).label("last")
    turns = select(jobs_table.c.owner, last).group_by(jobs_table.c.owner).subquery()
    query = (
        queued(data_dir_id)
        .join(turns, turns.c.owner == jobs_table.c.owner)
        .order_by(turns.c.last.nulls_first(), jobs_table.c.seq)
        .limit(1)
        .with_for_update(skip_locked=True, of=jobs_table)
    )
    job_id = connection.execute(query).scalar()
    if job_id is None or not give_to(connection, str(job_id), worker):
        return None
    return require_job(connection, str(job_id))


def queued(data_dir_id: str) -> Select[tuple[str]]:
    """Ids of the jobs of a data directory that wait for a worker."""
    return select(jobs_table.c.id).where(
        jobs_table.c.status == "queued", jobs_table.c.data_dir_id.in_(("", data_dir_id))
    )


def give_to(connection: Connection, job_id: str, worker: str) -> bool:
    """Make a queued job this worker's; False when it is not queued (any more)."""
    now = now_us(connection)
    statement = (
        update(jobs_table)
        .where(jobs_table.c.id == job_id, jobs_table.c.status == "queued")
        .values(
            status="running",
            control="run",
            worker=worker,
            started_us=func.coalesce(jobs_table.c.started_us, now),
            claimed_us=now,
            heartbeat_us=now,
            updated_us=now,
        )
    )
    return connection.execute(statement).rowcount == 1


def jobs_of_the_dead(
    connection: Connection, seconds: float, is_alive: IsAlive
) -> Sequence[JobRecord]:
    """Running jobs whose worker is dead, or silent for ``seconds`` where that is not known."""
    # In one order, so that two who take jobs at once do not wait for each other.
    running = select(jobs_table).where(jobs_table.c.status == "running").order_by(jobs_table.c.seq)
    deadline = decode_time(now_us(connection)) - timedelta(seconds=seconds)
    jobs = [read_row(JobRecord, row) for row in connection.execute(running)]
    return [job for job in jobs if _is_dead(job, deadline, is_alive)]


def abandon_jobs(connection: Connection, dead: Sequence[JobRecord]) -> list[JobRecord]:
    """End jobs as abandoned, or cancelled where wished, unless they changed since ``dead``."""
    taken: list[JobRecord] = []
    for job in dead:
        row = find_row(connection, jobs_table, job.id, lock=True)
        now = None if row is None else read_row(JobRecord, row)
        if now is None or now.status != "running" or now.heartbeat_at != job.heartbeat_at:
            continue
        if now.control == "cancel":
            set_status(connection, job.id, "cancelled")
        else:
            error = encode_text("error", ABANDONED_ERROR)
            set_status(connection, job.id, "abandoned", error=error)
        taken.append(require_job(connection, job.id))
    return taken


def _is_dead(job: JobRecord, deadline: datetime, is_alive: Callable[[str], bool | None]) -> bool:
    alive = is_alive(job.worker or "")
    if alive is None:
        return job.heartbeat_at is None or job.heartbeat_at < deadline
    return not alive


def set_status(connection: Connection, job_id: str, status: JobStatus, **values: Any) -> None:
    """Give the job a status in which nobody works on it. Raises: NotFoundError."""
    finished_us = now_us(connection) if status in ENDED_STATUSES else None
    change_row(
        connection,
        jobs_table,
        job_id,
        status=status,
        control="run",
        eta_s=None,
        finished_us=finished_us,
        **values,
    )


def require_job(connection: Connection, job_id: str, lock: bool = False) -> JobRecord:
    """The job; with ``lock`` nobody else changes it in this transaction's time."""
    return read_row(JobRecord, require_row(connection, jobs_table, job_id, lock))


def require_held(connection: Connection, job_id: str, worker: str) -> JobRecord:
    """The job, locked, if it is this worker's."""
    job = require_job(connection, job_id, lock=True)
    if job.status != "running" or job.worker != worker:
        raise JobStateError(
            f"The job {job_id!r} is {job.status} and not this worker's any more: it was taken for "
            "dead, or deleted and made again."
        )
    return job
