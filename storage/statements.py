"""Statements that the stores share: one row by its id, and the newest rows of a table."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, Select, Table, delete, select, update

from storage.codec import encode_text
from storage.dialects.expressions import now_us
from storage.errors import InvalidRecordError, NotFoundError

_MAX_LIMIT = 2**31 - 1


def require_row(connection: Connection, of: Table, record_id: str, lock: bool = False) -> Row[Any]:
    """The row, which nobody else changes in this transaction's time with ``lock``."""
    query = select(of).where(of.c.id == record_id)
    row = connection.execute(query.with_for_update() if lock else query).first()
    if row is None:
        raise _not_found(of, record_id)
    return row


def require_id(connection: Connection, of: Table, record_id: str, lock: bool = False) -> int:
    """Its place in the order of creation, without the row. Raises: NotFoundError."""
    query = select(of.c.seq).where(of.c.id == record_id)
    seq = connection.execute(query.with_for_update() if lock else query).scalar()
    if seq is None:
        raise _not_found(of, record_id)
    return int(seq)


def change_row(connection: Connection, of: Table, record_id: str, **values: Any) -> None:
    """Set columns, and the time of the change. Raises: NotFoundError."""
    values["updated_us"] = now_us(connection)
    changed = connection.execute(update(of).where(of.c.id == record_id).values(**values))
    if changed.rowcount == 0:
        raise _not_found(of, record_id)


def delete_row(connection: Connection, of: Table, record_id: str) -> None:
    """Delete it and, by the database's own rule, what belongs to it. Raises: NotFoundError."""
    if connection.execute(delete(of).where(of.c.id == record_id)).rowcount == 0:
        raise _not_found(of, record_id)


def newest_rows(
    connection: Connection,
    of: Table,
    owner: str | None,
    limit: int,
    before: str | None,
    *conditions: Any,
) -> list[Row[Any]]:
    """Rows that meet the conditions, newest first, older than the one with id ``before``."""
    query: Select[Any] = select(of).where(*conditions).order_by(of.c.seq.desc())
    if owner is not None:
        query = query.where(of.c.owner == encode_text("owner", owner))
    if before is not None:
        query = query.where(of.c.seq < require_id(connection, of, before))
    return list(connection.execute(query.limit(checked_limit(limit))).all())


def checked_limit(limit: int) -> int:
    """The limit. Raises: InvalidRecordError below 1."""
    if not 1 <= limit <= _MAX_LIMIT:
        raise InvalidRecordError(f"limit must be a whole number of at least 1, not {limit!r}.")
    return limit


def _not_found(of: Table, record_id: str) -> NotFoundError:
    word = of.name.removesuffix("s")
    return NotFoundError(f"There is no {word} {record_id!r}. It may have been deleted.")
