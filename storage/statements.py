"""Statements that the stores share, and the SQL that the two databases spell differently."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from storage.codec import encode_text, encode_time
from storage.errors import InvalidRecordError, NotFoundError

_MAX_LIMIT = 2**31 - 1
POSTGRESQL = "postgresql"  # as SQLAlchemy names it
_CLOCK = sa.text("SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)")


def require_row(
    connection: sa.Connection, of: sa.Table, record_id: str, lock: bool = False, *columns: Any
) -> sa.Row[Any]:
    """The row, or columns of it, which nobody else changes meanwhile with ``lock``."""
    query: sa.Select[Any] = sa.select(*(columns or (of,))).where(of.c.id == record_id)
    row = connection.execute(query.with_for_update() if lock else query).first()
    if row is None:
        raise _not_found(of, record_id)
    return row


def require_id(connection: sa.Connection, of: sa.Table, record_id: str, lock: bool = False) -> int:
    """Its number in the order of creation, without the row. Raises: NotFoundError."""
    return int(require_row(connection, of, record_id, lock, of.c.seq)[0])


def change_row(connection: sa.Connection, of: sa.Table, record_id: str, **values: Any) -> None:
    """Set columns, and the time of the change. Raises: NotFoundError."""
    values["updated_us"] = now_us(connection)
    changed = connection.execute(sa.update(of).where(of.c.id == record_id).values(**values))
    if changed.rowcount == 0:
        raise _not_found(of, record_id)


def delete_row(connection: sa.Connection, of: sa.Table, record_id: str) -> None:
    """Delete it and, by the database's own rule, what belongs to it. Raises: NotFoundError."""
    if connection.execute(sa.delete(of).where(of.c.id == record_id)).rowcount == 0:
        raise _not_found(of, record_id)


def newest_rows(
    connection: sa.Connection,
    of: sa.Table,
    owner: str | None,
    limit: int,
    before: str | None,
    *conditions: Any,
) -> list[sa.Row[Any]]:
    """Rows that meet the conditions, newest first, older than the one with id ``before``."""
    if not 1 <= limit <= _MAX_LIMIT:
        raise InvalidRecordError(f"limit must be a whole number of at least 1, not {limit!r}.")
    query: sa.Select[Any] = sa.select(of).where(*conditions).order_by(of.c.seq.desc())
    if owner is not None:
        query = query.where(of.c.owner == encode_text("owner", owner))
    if before is not None:
        query = query.where(of.c.seq < require_id(connection, of, before))
    return list(connection.execute(query.limit(limit)).all())


def _not_found(of: sa.Table, record_id: str) -> NotFoundError:
    word = of.name.removesuffix("s")
    return NotFoundError(f"There is no {word} {record_id!r}. It may have been deleted.")


def insert_into(connection: sa.Connection, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT that can say what to do about a row that is there already."""
    if connection.dialect.name == POSTGRESQL:
        return postgresql.insert(table)
    return sqlite.insert(table)


def now_us(connection: sa.Connection) -> int:
    """Microseconds since 1970-01-01 UTC by one clock, a server's own: heartbeats are compared."""
    if connection.dialect.name == POSTGRESQL:
        return int(connection.execute(_CLOCK).scalar_one())
    return encode_time(datetime.now(UTC))


def contains(
    connection: sa.Connection, column: sa.ColumnElement[bytes], needle: bytes
) -> sa.ColumnElement[bool]:
    """Return whether bytes contain other bytes: no wildcards to escape, and a NUL ends nothing."""
    part = sa.literal(needle, sa.LargeBinary())
    if connection.dialect.name == POSTGRESQL:
        return sa.func.position(part.op("IN")(column)) > 0
    return sa.func.instr(column, part) > 0
