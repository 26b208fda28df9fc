"""Whose turn it is: the order in which workers take queued jobs."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, Select, Subquery, func, or_, select, update

from storage import statements
from storage.schema import jobs_table

# Those who take turns: the address that a job came from, without one its owner.
REQUESTER: ColumnElement[bytes] = func.coalesce(jobs_table.c.address, jobs_table.c.owner)


def queued(data_dir_id: str) -> Select[tuple[str]]:
    """Ids of the jobs of a data directory that wait for a worker."""
    return select(jobs_table.c.id).where(
        jobs_table.c.status == "queued", jobs_table.c.data_dir_id.in_(("", data_dir_id))
    )


def following(data_dir_id: str) -> Select[tuple[str]]:
    """Id of the job whose turn it is, locked.

    It is of the requester longest without a turn, there of such an owner, and of these the oldest.
    """
    requesters, owners = _turns(REQUESTER), _turns(jobs_table.c.owner)
    return (
        queued(data_dir_id)
        .join(requesters, requesters.c.whose == REQUESTER)
        .join(owners, owners.c.whose == jobs_table.c.owner)
        .order_by(requesters.c.last.nulls_first(), owners.c.last.nulls_first(), jobs_table.c.seq)
        .limit(1)
        .with_for_update(skip_locked=True, of=jobs_table)
    )


def keep_turn(connection: Connection, job_id: str) -> None:
    """Have the queued jobs of a job's address remember its turn, which goes with its row."""
    job = jobs_table.c
    which = select(REQUESTER, job.claimed_us).where(job.id == job_id)
    requester, turn = connection.execute(which).one()
    if turn is not None:
        later = or_(job.claimed_us.is_(None), job.claimed_us < turn)
        waiting = update(jobs_table).where(requester == REQUESTER, job.status == "queued", later)
        connection.execute(waiting.values(claimed_us=turn))


def give_to(connection: Connection, job_id: str, worker: str) -> bool:
    """Make a queued job this worker's; False when it is not queued (any more)."""
    job, now = jobs_table.c, statements.now_us(connection)
    last_turn = connection.execute(select(func.max(job.claimed_us))).scalar()
    values = {"status": "running", "control": "run", "worker": worker}
    times = {"heartbeat_us": now, "updated_us": now}
    times["claimed_us"] = max(now, (last_turn or 0) + 1)  # in order, should the clock go back
    statement = (
        update(jobs_table)
        .where(job.id == job_id, job.status == "queued")
        .values(started_us=func.coalesce(job.started_us, now), **values, **times)
    )
    return connection.execute(statement).rowcount == 1


def _turns(whose: ColumnElement[bytes]) -> Subquery:
    """The last turn of each address, or owner."""
    last = func.max(jobs_table.c.claimed_us).label("last")
    return select(whose.label("whose"), last).group_by(whose).subquery()
