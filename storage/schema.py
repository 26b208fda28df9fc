"""The tables of today's schema, and how an older database is brought up to it.

What a database lacks is added, and what nothing uses any more dropped, in one transaction. A change
that adding cannot make needs a step of its own here. The version, raised with every change, keeps
an older release from using a database that it does not know.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.schema import CreateColumn

from storage.errors import DatabaseVersionError

LATEST_VERSION = 10
# "SOLx" in ASCII marks an SQLite file as ours, so that another program's is refused.
APPLICATION_ID = 0x534F4C78
_DROPPED = ("attempts", "challenges", "looks")  # each before the table that it refers to


class _Bytes(sa.LargeBinary):
    """Bytes as the driver returns them: a damaged SQLite row may hold text instead."""

    cache_ok = True

    def result_processor(self, dialect: sa.Dialect, coltype: object) -> Callable[[Any], Any] | None:
        return None


_WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_REAL: sa.Double[float] = sa.Double().with_variant(sa.REAL(), "sqlite")
_METADATA = sa.MetaData()


def _bytes(*names: str, nullable: bool = False) -> list[sa.Column[Any]]:
    return [sa.Column(name, _Bytes(), nullable=nullable) for name in names]


def _whole(*names: str, nullable: bool = False) -> list[sa.Column[Any]]:
    return [sa.Column(name, _WHOLE, nullable=nullable) for name in names]


def _text(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, sa.Text(), nullable=False) for name in names]


def _named_rows() -> list[sa.Column[Any]]:
    """Columns of rows with an id; seq gives the order of creation, which the clock cannot."""
    return [
        sa.Column("seq", _WHOLE, sa.Identity(), primary_key=True),
        sa.Column("id", sa.Text(), nullable=False, unique=True),
    ]


def _belongs_to(table: str, name: str) -> sa.Column[Any]:
    return sa.Column(
        name, sa.Text(), sa.ForeignKey(f"{table}.id", ondelete="CASCADE"), primary_key=True
    )


runs_table = sa.Table(
    "runs",
    _METADATA,
    *_named_rows(),
    *_bytes("owner"),
    *_text("status"),
    *_bytes("title", "prompt", "search_text", "model", "schedule", "config"),
    *_bytes("prefill", "summary", "error", nullable=True),
    *_whole("num_tokens", "created_us", "updated_us"),
    sa.Column("kind", sa.Text(), nullable=False, server_default="generation"),
    sa.Column("data_dir_id", sa.Text(), nullable=False, server_default=""),
    *_bytes("preview", nullable=True),  # nothing reads it any more
    sa.Column("parent", sa.Text()),  # no reference: a fork outlives its parent
    sa.Index("runs_by_owner", "owner", "seq"),
    sa.Index("runs_by_parent", "parent"),
)
events_table = sa.Table(
    "events",
    _METADATA,
    _belongs_to("runs", "run_id"),
    sa.Column("idx", _WHOLE, primary_key=True, autoincrement=False),
    *_bytes("record"),
)
jobs_table = sa.Table(
    "jobs",
    _METADATA,
    *_named_rows(),
    *_text("kind"),
    *_bytes("owner", "title"),
    *_text("status", "control"),
    *_bytes("params"),
    sa.Column("progress", _REAL, nullable=False),
    *_bytes("message"),
    sa.Column("eta_s", _REAL),
    *_bytes("result", "error", "log_file", nullable=True),
    sa.Column("worker", sa.Text()),
    *_whole("created_us"),
    *_whole("started_us", "heartbeat_us", "finished_us", nullable=True),
    *_whole("updated_us"),
    sa.Column("data_dir_id", sa.Text(), nullable=False, server_default=""),
    *_whole("claimed_us", nullable=True),
    *_bytes("address", nullable=True),
    sa.Index("jobs_by_status", "status", "seq"),
    sa.Index("jobs_by_owner", "owner", "seq"),
)
job_metrics_table = sa.Table(
    "job_metrics",
    _METADATA,
    _belongs_to("jobs", "job_id"),
    sa.Column("seq", _WHOLE, primary_key=True, autoincrement=False),
    *_whole("step"),
    *_bytes("record"),
)
job_samples_table = sa.Table(
    "job_samples",
    _METADATA,
    _belongs_to("jobs", "job_id"),
    sa.Column("seq", _WHOLE, primary_key=True, autoincrement=False),
    *_bytes("record"),
)


def add_missing(connection: sa.Connection) -> None:
    """Give a database of any earlier version, or a blank one, today's tables."""
    existing = sa.inspect(connection)
    names = existing.get_table_names()
    for name in _DROPPED:
        connection.exec_driver_sql(f"DROP TABLE IF EXISTS {name}")
    _METADATA.create_all(connection)
    for table in filter(lambda table: table.name in names, _METADATA.sorted_tables):
        columns = {column["name"] for column in existing.get_columns(table.name)}
        for column in filter(lambda column: column.name not in columns, table.columns):
            text = CreateColumn(column).compile(dialect=connection.dialect)
            connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {text}")
        for index in table.indexes:
            index.create(connection, checkfirst=True)


def check_version(shown: str, version: int) -> None:
    """Raise DatabaseVersionError when ``version`` is not one that this release can read."""
    if 0 <= version <= LATEST_VERSION:
        return
    raise DatabaseVersionError(
        f"The database {shown} has schema version {version}, written by a newer release; this "
        f"release reads versions up to {LATEST_VERSION}. It was left unchanged. "
        "Update the program, or choose another data directory or database."
    )
