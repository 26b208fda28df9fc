"""The few pieces of SQL that the two databases spell differently."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, literal, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import Boolean, LargeBinary

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


def contains(column: ColumnElement[bytes], needle: bytes) -> ColumnElement[bool]:
    """Return whether bytes contain other bytes: no wildcards to escape, and a NUL ends nothing."""
    return _Contains(column, literal(needle, LargeBinary()))


class _Contains(FunctionElement[bool]):
    inherit_cache = True
    type = Boolean()


@compiles(_Contains)
def _instr(element: _Contains, compiler: SQLCompiler, **options: Any) -> str:
    return f"(instr({compiler.process(element.clauses, **options)}) > 0)"


@compiles(_Contains, POSTGRESQL)
def _position(element: _Contains, compiler: SQLCompiler, **options: Any) -> str:
    column, needle = (compiler.process(part, **options) for part in element.clauses)
    return f"(position({needle} IN {column}) > 0)"
