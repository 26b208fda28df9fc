"""The few pieces of SQL that the two databases spell differently."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import ColumnElement, Connection, LargeBinary, Table, func, literal, text
from sqlalchemy.dialects import postgresql, sqlite

from storage.codec import encode_time

POSTGRESQL = "postgresql"  # as SQLAlchemy names it
_CLOCK = text("SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)")


def insert_into(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT that can say what to do about a row that is there already."""
    if connection.dialect.name == POSTGRESQL:
        return postgresql.insert(table)
    return sqlite.insert(table)


def now_us(connection: Connection) -> int:
    """Microseconds since 1970-01-01 UTC by one clock, a server's own: heartbeats are compared."""
    if connection.dialect.name == POSTGRESQL:
        return int(connection.execute(_CLOCK).scalar_one())
    return encode_time(datetime.now(UTC))


def contains(
    connection: Connection, column: ColumnElement[bytes], needle: bytes
) -> ColumnElement[bool]:
    """Return whether bytes contain other bytes: no wildcards to escape, and a NUL ends nothing."""
    part = literal(needle, LargeBinary())
    if connection.dialect.name == POSTGRESQL:
        return func.position(part.op("IN")(column)) > 0
    return func.instr(column, part) > 0
