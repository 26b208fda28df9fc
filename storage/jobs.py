"""Background jobs: a queue, who works on what, how far it is, and what came out.

Heartbeats and endings count only while the job is still that worker's, so a worker that was thought
dead cannot disturb its successor. Each call is one short transaction.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, func, insert, literal, select

from storage import codec, job_turns, statements
from storage.database import Database
from storage.errors import JobStateError, NotFoundError
from storage.records import (
    ENDED_STATUSES,
    RESUMABLE_STATUSES,
    JobControl,
    JobKind,
    JobRecord,
    JobStatus,
    Record,
    StoredSize,
)
from storage.schema import job_metrics_table, job_samples_table, jobs_table

ABANDONED_ERROR = (
    "The process that ran this job ended before the job did. "
    "Resume continues from the last checkpoint."
)
KEPT_SAMPLES = 12
_MAX_STEP = 2**53  # the largest whole number that every JSON reader keeps exactly
_ID_BYTES = 6  # 12 hex digits: a command line takes no leading dash for an id
# Given a worker id: does its process live? None when that cannot be known here.
IsAlive = Callable[[str], bool | None]

# JobStore has a method called ``list``, which hides the built-in from its annotations.
_Records = list[Record]


class JobStore:
    """The jobs of one database, for the threads of its process; any call may raise StorageError."""

    def __init__(self, database: Database, data_dir_id: str = "") -> None:
        self._database = database
        self._data_dir_id = data_dir_id

    def create(
        self,
        kind: JobKind,
        owner: str,
        title: str,
        params: Record,
        worker: str | None = None,
        address: str | None = None,
    ) -> JobRecord:
        """Save a new job, queued or running at once on a ``worker``. Raises: InvalidRecordError."""
        values: Record = {
            "id": secrets.token_hex(_ID_BYTES),
            "kind": kind,
            "owner": codec.encode_text("owner", owner),
            "title": codec.encode_text("title", title),
            "status": "queued",
            "control": "run",
            "params": codec.encode_json("params", params),
            "progress": 0.0,
            "message": b"",
            "data_dir_id": self._data_dir_id,
            "address": codec.text_or_none("address", address),
        }
        with self._database.write() as connection:
            values["created_us"] = values["updated_us"] = statements.now_us(connection)
            connection.execute(insert(jobs_table), values)
            if worker is not None:
                job_turns.give_to(connection, str(values["id"]), worker)
            return _require_job(connection, str(values["id"]))

    def claim(self, worker: str) -> JobRecord | None:
        """Make the queued job whose turn it is this worker's, if there is any."""
        with self._database.read() as connection:  # an idle worker must not lock writers out
            if connection.execute(job_turns.queued(self._data_dir_id).limit(1)).first() is None:
                return None
        with self._database.write() as connection:
            job_id = connection.execute(job_turns.following(self._data_dir_id)).scalar()
            if job_id is None or not job_turns.give_to(connection, str(job_id), worker):
                return None
            return _require_job(connection, str(job_id))

    def heartbeat(
        self, job_id: str, worker: str, progress: float, message: str, eta_s: float | None = None
    ) -> JobControl:
        """Say how far the job is; return what the user wishes. Raises: JobStateError."""
        values = {
            "progress": min(max(progress, 0.0), 1.0),
            "message": codec.encode_text("message", message),
            "eta_s": None if eta_s is None else max(eta_s, 0.0),
        }
        with self._database.write() as connection:
            job = _require_held(connection, job_id, worker)
            statements.change_row(
                connection, jobs_table, job_id, heartbeat_us=statements.now_us(connection), **values
            )
        return job.control

    def set_log_file(self, job_id: str, log_file: str) -> None:
        """Save where the job's log is. Raises: NotFoundError."""
        data = codec.encode_text("log_file", log_file)
        with self._database.write() as connection:
            statements.change_row(connection, jobs_table, job_id, log_file=data)

    def finish(
        self,
        job_id: str,
        worker: str,
        status: JobStatus,
        result: Record | None = None,
        error: str | None = None,
    ) -> JobRecord:
        """Let go of a running job with its new status; return it as it is now.

        One that is let go as queued or paused becomes what the user wished meanwhile. Raises:
        JobStateError when it is no longer this worker's; NotFoundError; InvalidRecordError.
        """
        values: Record = {
            "result": codec.json_or_none("result", result),
            "error": codec.text_or_none("error", error),
        }
        with self._database.write() as connection:
            job = _require_held(connection, job_id, worker)
            if status in ("queued", "paused"):
                wished: dict[str, JobStatus] = {"pause": "paused", "cancel": "cancelled"}
                status = wished.get(job.control, status)
            if status == "succeeded":
                values["progress"] = 1.0
            _set_status(connection, job_id, status, **values)
            return _require_job(connection, job_id)

    def get(self, job_id: str) -> JobRecord:
        """The job. Raises: NotFoundError."""
        with self._database.read() as connection:
            return _require_job(connection, job_id)

    def list(
        self,
        owner: str | None = None,
        kind: JobKind | None = None,
        statuses: Sequence[JobStatus] | None = None,
        limit: int = 50,
    ) -> Sequence[JobRecord]:
        """List at most ``limit`` jobs of these, newest first."""
        columns = jobs_table.c
        conditions = []
        if kind is not None:
            conditions.append(columns.kind == kind)
        if statuses is not None:
            conditions.append(columns.status.in_(statuses))
        with self._database.read() as connection:
            rows = statements.newest_rows(connection, jobs_table, owner, limit, None, *conditions)
        return [codec.read_row(JobRecord, row) for row in rows]

    def request_cancel(self, job_id: str) -> JobRecord:
        """End the job: at once where nobody works on it, else at the next step."""
        with self._database.write() as connection:
            status = _require_job(connection, job_id, lock=True).status
            if status == "running":
                statements.change_row(connection, jobs_table, job_id, control="cancel")
            elif status in ("queued", "paused", "abandoned"):
                _set_status(connection, job_id, "cancelled")
            return _require_job(connection, job_id)

    def request_pause(self, job_id: str) -> JobRecord:
        """Pause the job: at once where it waits, else after a checkpoint at the next step."""
        with self._database.write() as connection:
            job = _require_job(connection, job_id, lock=True)
            if job.status == "running" and job.control == "run":
                statements.change_row(connection, jobs_table, job_id, control="pause")
            elif job.status == "queued":
                _set_status(connection, job_id, "paused")
            return _require_job(connection, job_id)

    def resume(self, job_id: str, worker: str | None = None) -> JobRecord:
        """Queue a paused, failed, cancelled or abandoned job; take back a pause not yet obeyed.

        A ``worker`` goes on with it itself, at once. Raises: NotFoundError; JobStateError.
        """
        with self._database.write() as connection:
            job = _require_job(connection, job_id, lock=True)
            if worker is not None:
                self._require_at_hand(job)
            if job.status in ("queued", *RESUMABLE_STATUSES):
                _set_status(connection, job_id, "queued", error=None)
                if worker is not None:
                    job_turns.give_to(connection, job_id, worker)
            elif worker is None and job.status == "running" and job.control != "cancel":
                statements.change_row(connection, jobs_table, job_id, control="run")
            else:
                raise JobStateError(_why_not_resumed(job))
            return _require_job(connection, job_id)

    def delete(self, job_id: str) -> None:
        """Delete the job, its metrics and samples. Raises: NotFoundError; JobStateError."""
        with self._database.write() as connection:
            job = _require_job(connection, job_id, lock=True)
            self._require_at_hand(job)
            if job.status == "running":
                raise JobStateError(f"The job {job_id!r} is running. Cancel it before deleting it.")
            job_turns.keep_turn(connection, job_id)
            statements.delete_row(connection, jobs_table, job_id)

    def sizes(self, statuses: Sequence[JobStatus]) -> Sequence[StoredSize]:
        """Return the bytes of such jobs, oldest first; the owner is the address, if known."""
        job = jobs_table.c
        columns = (job.title, job.params, job.message, job.result, job.error)
        parts = (func.coalesce(func.length(column), 0) for column in columns)
        size: ColumnElement[int] = sum(parts, literal(0))
        for table in (job_metrics_table, job_samples_table):
            rows = select(func.sum(func.length(table.c.record))).where(table.c.job_id == job.id)
            size += func.coalesce(rows.scalar_subquery(), 0)
        query = (
            select(job.id, job_turns.REQUESTER, size)
            .where(job.status.in_(statuses))
            .order_by(job.seq)
        )
        with self._database.read() as connection:
            rows_of_jobs = connection.execute(query).all()
        return [StoredSize(row[0], row[1], int(row[2])) for row in rows_of_jobs]

    def abandon_stale(self, seconds: float, is_alive: IsAlive) -> tuple[JobRecord, ...]:
        """Take running jobs from workers that died; return them as they are now.

        One that its user wanted cancelled becomes cancelled. A living worker keeps its job however
        old its heartbeat; where ``is_alive`` cannot tell, ``seconds`` without one count as death.
        """
        with self._database.read() as connection:
            dead = _jobs_of_the_dead(connection, seconds, is_alive)
        if not dead:
            return ()
        taken = []
        error = codec.encode_text("error", ABANDONED_ERROR)
        with self._database.write() as connection:
            for job in dead:
                with suppress(NotFoundError):  # it was deleted meanwhile, or has changed
                    now = _require_job(connection, job.id, lock=True)
                    if now.status != "running" or now.heartbeat_at != job.heartbeat_at:
                        continue
                    if now.control == "cancel":
                        _set_status(connection, job.id, "cancelled")
                    else:
                        _set_status(connection, job.id, "abandoned", error=error)
                    taken.append(_require_job(connection, job.id))
        return tuple(taken)

    def append_metrics(self, job_id: str, rows: Sequence[Record]) -> int:
        """Save metric rows that have a counting "step"; return how many were new.

        One whose step is not above the last saved is left out: a resumed job repeats steps. Raises:
        NotFoundError; InvalidRecordError for a row that is not JSON or has no step.
        """
        values = [
            (
                codec.number_of(row, "A metric row", "step", _MAX_STEP),
                codec.encode_json("metric row", row),
            )
            for row in rows
        ]
        table = job_metrics_table
        last = select(func.max(table.c.seq), func.max(table.c.step)).where(table.c.job_id == job_id)
        with self._database.write() as connection:
            statements.require_id(connection, jobs_table, job_id, lock=True)
            last_seq, last_step = (
                -1 if newest is None else int(newest) for newest in connection.execute(last).one()
            )
            new: _Records = []
            for step, data in values:
                if step > last_step:
                    last_step, last_seq = step, last_seq + 1
                    new.append({"job_id": job_id, "seq": last_seq, "step": step, "record": data})
            if new:
                connection.execute(insert(table), new)
        return len(new)

    def metrics(self, job_id: str, after: int = -1, limit: int | None = None) -> _Records:
        """Metric rows in order, each with its "seq", above ``after``. Raises: NotFoundError."""
        table = job_metrics_table
        query = (
            select(table.c.seq, table.c.record)
            .where(table.c.job_id == job_id, table.c.seq > after)
            .order_by(table.c.seq)
            .limit(limit)
        )
        with self._database.read() as connection:
            statements.require_id(connection, jobs_table, job_id)
            rows = connection.execute(query).all()
        return [{**codec.decode_json(record), "seq": seq} for seq, record in rows]

    def set_sample(self, job_id: str, sample: Record) -> None:
        """Save a sample instead of an equal one; only the last ``KEPT_SAMPLES`` are kept."""
        data = codec.encode_json("sample", sample)
        columns = job_samples_table.c
        of_job = columns.job_id == job_id
        with self._database.write() as connection:
            statements.require_id(connection, jobs_table, job_id, lock=True)
            connection.execute(delete(job_samples_table).where(of_job, columns.record == data))
            last = connection.execute(select(func.max(columns.seq)).where(of_job)).scalar()
            seq = 0 if last is None else int(last) + 1
            values = {"job_id": job_id, "seq": seq, "record": data}
            connection.execute(insert(job_samples_table), values)
            old = columns.seq <= seq - KEPT_SAMPLES
            connection.execute(delete(job_samples_table).where(of_job, old))

    def samples(self, job_id: str) -> _Records:
        """The samples that are kept, oldest first. Raises: NotFoundError."""
        columns = job_samples_table.c
        query = select(columns.record).where(columns.job_id == job_id).order_by(columns.seq)
        with self._database.read() as connection:
            statements.require_id(connection, jobs_table, job_id)
            return [codec.decode_json(record) for record in connection.execute(query).scalars()]

    def _require_at_hand(self, job: JobRecord) -> None:
        if job.data_dir_id not in ("", self._data_dir_id):
            raise JobStateError(
                f"The job {job.id!r} has its files in another data directory, "
                f"{job.data_dir_id!r}; this one is {self._data_dir_id!r}. Do it there."
            )


def _why_not_resumed(job: JobRecord) -> str:
    if job.status == "succeeded":
        return f"The job {job.id!r} has succeeded: there is nothing to resume."
    doing = "being cancelled" if job.control == "cancel" else "running"
    return f"The job {job.id!r} is {doing}. Wait until it has ended, then resume it."


def _jobs_of_the_dead(
    connection: Connection, seconds: float, is_alive: IsAlive
) -> Sequence[JobRecord]:
    """Running jobs whose worker is dead, or silent for ``seconds`` where that is not known."""
    # In one order, so that two who take jobs at once do not wait for each other.
    running = select(jobs_table).where(jobs_table.c.status == "running").order_by(jobs_table.c.seq)
    deadline = codec.decode_time(statements.now_us(connection)) - timedelta(seconds=seconds)

    def is_dead(job: JobRecord) -> bool:
        alive = is_alive(job.worker or "")
        if alive is None:
            return job.heartbeat_at is None or job.heartbeat_at < deadline
        return not alive

    jobs = [codec.read_row(JobRecord, row) for row in connection.execute(running)]
    return list(filter(is_dead, jobs))


def _set_status(connection: Connection, job_id: str, status: JobStatus, **values: Any) -> None:
    """Give the job a status in which nobody works on it. Raises: NotFoundError."""
    values |= {"status": status, "control": "run", "eta_s": None}
    values["finished_us"] = statements.now_us(connection) if status in ENDED_STATUSES else None
    statements.change_row(connection, jobs_table, job_id, **values)


def _require_job(connection: Connection, job_id: str, lock: bool = False) -> JobRecord:
    """The job; with ``lock`` nobody else changes it in this transaction's time."""
    return codec.read_row(JobRecord, statements.require_row(connection, jobs_table, job_id, lock))


def _require_held(connection: Connection, job_id: str, worker: str) -> JobRecord:
    job = _require_job(connection, job_id, lock=True)
    if job.status != "running" or job.worker != worker:
        raise JobStateError(
            f"The job {job_id!r} is {job.status} and not this worker's any more: it was taken for "
            "dead, or deleted and made again."
        )
    return job
