"""Texts that visitors schedule by hand, and the best attempts at each.

A challenge is named by a digest of everything that decides its numbers, so that the same text,
model, policy and budget are one challenge with one scoreboard. An attempt's place is decided by
its KL to dense, the earlier one first among equals.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, func, select

from storage.codec import encode_json, encode_text, finite_number, read_row
from storage.database import Database
from storage.dialects import insert_into, now_us
from storage.errors import NotFoundError
from storage.records import Record
from storage.statements import find_row, named_table

MAX_KEPT = 10  # attempts of one visitor at one challenge; the best stay

# The migrations create the tables; here are only the names that the queries use.
challenges_table = named_table("challenges", "seq id record created_us")
attempts_table = named_table(
    "attempts", "seq challenge_id owner name kl nll schedule record created_us"
)


@dataclass(frozen=True, slots=True)
class ChallengeRecord:
    """One challenge.

    Attributes:
        record: what the app needs to show and to score it, as JSON.
        created_at: aware, UTC.
    """

    id: str
    record: Record
    created_at: datetime


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One scored schedule.

    Attributes:
        id: of the attempt, counting up over all challenges.
        owner: who made it; name: what they call themselves, "" for nobody in particular.
        kl, nll: means over the text's tokens, nats.
        schedule, record: what was painted, and what else was measured with it, as JSON.
        created_at: aware, UTC.
    """

    id: int
    challenge_id: str
    owner: str
    name: str
    kl: float
    nll: float
    schedule: Record
    record: Record
    created_at: datetime


class ChallengeStore:
    """The challenges of one database. Safe to call from any thread of its process.

    Besides what a method names, any of them raises DatabaseLockedError, DatabaseWriteError or
    DatabaseCorruptError when the file gives trouble, and then has changed nothing.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def save(self, challenge_id: str, record: Record) -> ChallengeRecord:
        """Keep a challenge; one that is there already stays as it is. Returns what is kept.

        Raises: InvalidRecordError when ``record`` is not JSON.
        """
        values: dict[str, Any] = {"id": challenge_id, "record": encode_json("challenge", record)}
        with self._database.write() as connection:
            values["created_us"] = now_us(connection)
            statement = insert_into(connection, challenges_table).on_conflict_do_nothing()
            connection.execute(statement, values)
            return _require(connection, challenge_id)

    def find(self, challenge_id: str) -> ChallengeRecord | None:
        """The challenge; None where there is none."""
        with self._database.read() as connection:
            return _find(connection, challenge_id)

    def get(self, challenge_id: str) -> ChallengeRecord:
        """The challenge. Raises: NotFoundError."""
        with self._database.read() as connection:
            return _require(connection, challenge_id)

    def used_bytes(self) -> int:
        """Return the bytes of all challenges with their attempts, indices not counted."""
        of_challenges = select(func.sum(func.length(challenges_table.c.record)))
        attempt = attempts_table.c
        of_attempts = select(func.sum(func.length(attempt.schedule) + func.length(attempt.record)))
        with self._database.read() as connection:
            sums = [connection.execute(query).scalar() for query in (of_challenges, of_attempts)]
        return sum(int(one or 0) for one in sums)

    def delete_oldest(self, count: int) -> int:
        """Delete the oldest challenges with their attempts, at most ``count``; return how many."""
        table = challenges_table
        oldest = select(table.c.seq).order_by(table.c.seq).limit(count)
        with self._database.write() as connection:
            return connection.execute(delete(table).where(table.c.seq.in_(oldest))).rowcount

    def add_attempt(
        self,
        challenge_id: str,
        owner: str,
        *,
        name: str,
        kl: float,
        nll: float,
        schedule: Record,
        record: Record,
    ) -> int | None:
        """Keep an attempt if it is among the owner's ``MAX_KEPT`` best; return its id then.

        The same schedule of the same owner counts once: it keeps its time and its place, and
        takes the new name.

        Raises: NotFoundError when the challenge is gone; InvalidRecordError for what is no JSON.
        """
        table = attempts_table
        values: dict[str, Any] = {
            "challenge_id": challenge_id,
            "owner": encode_text("owner", owner),
            "name": encode_text("name", name),
            "kl": finite_number("kl", kl),
            "nll": finite_number("nll", nll),
            "schedule": encode_json("schedule", schedule),
            "record": encode_json("attempt", record),
        }
        mine = (table.c.challenge_id == challenge_id, table.c.owner == values["owner"])
        with self._database.write() as connection:
            _require(connection, challenge_id, lock=True)
            values["created_us"] = now_us(connection)
            statement = insert_into(connection, table)
            statement = statement.on_conflict_do_update(
                index_elements=["challenge_id", "owner", "schedule"],
                set_={"name": statement.excluded.name},
            )
            connection.execute(statement, values)
            query = select(table.c.seq).where(*mine, table.c.schedule == values["schedule"])
            attempt_id = int(connection.execute(query).scalar_one())
            best = select(table.c.seq).where(*mine).order_by(table.c.kl, table.c.seq)
            kept = connection.execute(best.limit(MAX_KEPT)).scalars().all()
            connection.execute(delete(table).where(*mine, table.c.seq.not_in(kept)))
        return attempt_id if attempt_id in kept else None

    def best(self, challenge_id: str, limit: int) -> list[AttemptRecord]:
        """The attempts with the least KL, best first."""
        table = attempts_table
        query = (
            select(table)
            .where(table.c.challenge_id == challenge_id)
            .order_by(table.c.kl, table.c.seq)
            .limit(limit)
        )
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return [read_row(AttemptRecord, row, id=row.seq) for row in rows]

    def delete_attempt(self, attempt_id: int, owner: str | None = None) -> None:
        """Delete an attempt for good; with ``owner``, only that owner's.

        Raises: NotFoundError.
        """
        query = delete(attempts_table).where(attempts_table.c.seq == attempt_id)
        if owner is not None:
            query = query.where(attempts_table.c.owner == encode_text("owner", owner))
        with self._database.write() as connection:
            if connection.execute(query).rowcount == 0:
                raise NotFoundError(f"There is no attempt {attempt_id} of yours.")


def _find(connection: Connection, challenge_id: str, lock: bool = False) -> ChallengeRecord | None:
    row = find_row(connection, challenges_table, challenge_id, lock)
    return None if row is None else read_row(ChallengeRecord, row)


def _require(connection: Connection, challenge_id: str, lock: bool = False) -> ChallengeRecord:
    found = _find(connection, challenge_id, lock)
    if found is None:
        raise NotFoundError(
            f"There is no challenge {challenge_id!r} in this database. Set it up from its text."
        )
    return found
