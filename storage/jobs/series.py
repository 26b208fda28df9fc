"""A job's metric rows and samples: what the page draws while the job runs."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, func, insert, select

from storage.codec import decode_json, encode_json, number_of
from storage.database import Database
from storage.records import Record
from storage.schema import job_metrics_table, job_samples_table, jobs_table
from storage.statements import checked_limit, require_id

KEPT_SAMPLES = 12
_MAX_STEP = 2**53  # the largest whole number that every JSON reader keeps exactly


class JobSeries:
    """The metrics and samples of a database's jobs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def append_metrics(self, job_id: str, rows: Sequence[Record]) -> int:
        """Save metric rows that have a counting "step"; return how many were new.

        One whose step is not above the last saved is left out: a resumed job repeats steps. Raises:
        NotFoundError; InvalidRecordError for a row that is not JSON or has no step.
        """
        values = [
            (number_of(row, "A metric row", "step", _MAX_STEP), encode_json("metric row", row))
            for row in rows
        ]
        table = job_metrics_table
        last = select(func.max(table.c.seq), func.max(table.c.step)).where(table.c.job_id == job_id)
        with self._database.write() as connection:
            require_id(connection, jobs_table, job_id, lock=True)
            last_seq, last_step = (
                -1 if newest is None else int(newest) for newest in connection.execute(last).one()
            )
            new: list[Record] = []
            for step, data in values:
                if step > last_step:
                    last_step, last_seq = step, last_seq + 1
                    new.append({"job_id": job_id, "seq": last_seq, "step": step, "record": data})
            if new:
                connection.execute(insert(table), new)
        return len(new)

    def metrics(self, job_id: str, after: int = -1, limit: int | None = None) -> list[Record]:
        """Metric rows in order, each with its "seq", above ``after``. Raises: NotFoundError."""
        table = job_metrics_table
        query = (
            select(table.c.seq, table.c.record)
            .where(table.c.job_id == job_id, table.c.seq > after)
            .order_by(table.c.seq)
        )
        if limit is not None:
            query = query.limit(checked_limit(limit))
        with self._database.read() as connection:
            require_id(connection, jobs_table, job_id)
            rows = connection.execute(query).all()
        return [{**decode_json(record), "seq": seq} for seq, record in rows]

    def set_sample(self, job_id: str, sample: Record) -> None:
        """Save a sample, in the place of an equal one; only the last ``KEPT_SAMPLES`` are kept."""
        data = encode_json("sample", sample)
        columns = job_samples_table.c
        of_job = columns.job_id == job_id
        with self._database.write() as connection:
            require_id(connection, jobs_table, job_id, lock=True)
            connection.execute(delete(job_samples_table).where(of_job, columns.record == data))
            last = connection.execute(select(func.max(columns.seq)).where(of_job)).scalar()
            seq = 0 if last is None else int(last) + 1
            values = {"job_id": job_id, "seq": seq, "record": data}
            connection.execute(insert(job_samples_table), values)
            old = columns.seq <= seq - KEPT_SAMPLES
            connection.execute(delete(job_samples_table).where(of_job, old))

    def samples(self, job_id: str) -> list[Record]:
        """The samples that are kept, oldest first. Raises: NotFoundError."""
        columns = job_samples_table.c
        query = select(columns.record).where(columns.job_id == job_id).order_by(columns.seq)
        with self._database.read() as connection:
            require_id(connection, jobs_table, job_id)
            return [decode_json(record) for record in connection.execute(query).scalars()]
