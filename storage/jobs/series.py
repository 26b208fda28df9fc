"""A job's metric rows and samples: what the page draws while the job runs."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, delete, func, insert, select

from storage.codec import decode_json, encode_json
from storage.errors import InvalidRecordError
from storage.jobs.records import job_metrics_table, job_samples_table
from storage.records import Record

KEPT_SAMPLES = 12
_MAX_STEP = 2**53  # the largest whole number that every JSON reader keeps exactly


def insert_metrics(connection: Connection, job_id: str, rows: Sequence[Record]) -> int:
    """Append the rows whose step is above the last saved one; return how many.

    Raises: InvalidRecordError when a row is not JSON or has no valid step.
    """
    values = [(_step_of(row), encode_json("metric row", row)) for row in rows]
    table = job_metrics_table
    last = connection.execute(
        select(func.max(table.c.seq), func.max(table.c.step)).where(table.c.job_id == job_id)
    ).one()
    next_seq = 0 if last[0] is None else int(last[0]) + 1
    last_step = -1 if last[1] is None else int(last[1])
    new: list[Record] = []
    for step, data in values:
        if step > last_step:
            last_step = step
            seq = next_seq + len(new)
            new.append({"job_id": job_id, "seq": seq, "step": step, "record": data})
    if new:
        connection.execute(insert(table), new)
    return len(new)


def select_metrics(
    connection: Connection, job_id: str, after: int, limit: int | None
) -> list[Record]:
    """Rows with a seq above ``after``, in order, each with its "seq"."""
    table = job_metrics_table
    query = (
        select(table.c.seq, table.c.record)
        .where(table.c.job_id == job_id, table.c.seq > after)
        .order_by(table.c.seq)
    )
    if limit is not None:
        query = query.limit(limit)
    found = connection.execute(query).all()
    return [{**decode_json(record), "seq": seq} for seq, record in found]


def insert_sample(connection: Connection, job_id: str, sample: Record) -> None:
    """Add a sample and drop all but the last ``KEPT_SAMPLES``.

    One that a job which goes on makes again takes the place of the one that is there.

    Raises: InvalidRecordError when it is not JSON.
    """
    table = job_samples_table
    data = encode_json("sample", sample)
    connection.execute(delete(table).where(table.c.job_id == job_id, table.c.record == data))
    last = connection.execute(
        select(func.max(table.c.seq)).where(table.c.job_id == job_id)
    ).scalar()
    seq = 0 if last is None else int(last) + 1
    connection.execute(insert(table), {"job_id": job_id, "seq": seq, "record": data})
    connection.execute(
        delete(table).where(table.c.job_id == job_id, table.c.seq <= seq - KEPT_SAMPLES)
    )


def select_samples(connection: Connection, job_id: str) -> list[Record]:
    """The samples that are kept, oldest first."""
    table = job_samples_table
    query = select(table.c.record).where(table.c.job_id == job_id).order_by(table.c.seq)
    return [decode_json(record) for record in connection.execute(query).scalars()]


def _step_of(row: Record) -> int:
    step = row.get("step") if isinstance(row, dict) else None
    if type(step) is not int or not 0 <= step <= _MAX_STEP:
        raise InvalidRecordError(
            f'A metric row needs a "step" that is a whole number of at least 0, not {step!r}.'
        )
    return step
