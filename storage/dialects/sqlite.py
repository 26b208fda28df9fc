"""SQLite: one file, write-ahead logging, one writer at a time.

Writers begin with BEGIN IMMEDIATE: they wait for their turn instead of failing half way.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, QueuePool, create_engine, event

from storage.dialects import sqlite_health as health
from storage.errors import DatabaseWriteError, StorageError
from storage.schema import APPLICATION_ID

# Connections kept open; more are opened when more threads work at once, and closed afterwards.
_POOL_SIZE = 4
_WAL_RETRY_S = 0.02


class SqliteBackend:
    """The file at ``path``, made with its folders when missing; ``shown`` names it in messages."""

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.realpath(path))
        self.shown = str(self.path)

    def prepare(self, busy_timeout_s: float) -> tuple[str, ...]:
        """Look whether it can be used; returns notices for the user. Raises: StorageError."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DatabaseWriteError(
                f"The folder {self.path.parent} for the database cannot be made ({error}). "
                "Choose another data directory."
            ) from error
        notices = (
            health.notice_if_empty(self.path),
            health.set_aside_if_corrupt(self.path, busy_timeout_s),
        )
        return tuple(notice for notice in notices if notice is not None)

    def look(self, busy_timeout_s: float) -> tuple[int, int] | None:
        """Schema version and number of runs, with nothing changed; None for a blank."""
        if not self.path.exists():
            return None
        health.inspect_database(self.path, busy_timeout_s)
        uri = f"{self.path.as_uri()}?mode=ro"
        with (
            health.translate_sqlite_errors(self.path),
            closing(sqlite3.connect(uri, uri=True, timeout=busy_timeout_s)) as connection,
        ):
            version = int(connection.execute("PRAGMA user_version").fetchone()[0])
            if version == 0:
                return None
            return version, int(connection.execute("SELECT count(*) FROM runs").fetchone()[0])

    def open(self, busy_timeout_s: float) -> tuple[Engine, Engine]:
        """Engines for reading and for writing, on one pool of connections."""
        engine = _make_engine(URL.create("sqlite", database=self.shown), busy_timeout_s)

        def set_pragmas(connection: sqlite3.Connection, _record: Any) -> None:
            enable_wal(connection, busy_timeout_s)
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA synchronous = NORMAL")

        event.listen(engine, "connect", set_pragmas)
        return engine, engine.execution_options(begin_statement="BEGIN IMMEDIATE")

    def storage_error(self, error: BaseException | None) -> StorageError:
        return health.storage_error_from_sqlite(self.path, error)

    def lock_schema(self, connection: Connection) -> None:
        """BEGIN IMMEDIATE has locked everything."""

    def schema_version(self, connection: Connection) -> int:
        """The version that ``set_schema_version`` wrote last; 0 for a blank database."""
        return int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())

    def set_schema_version(self, connection: Connection, number: int) -> None:
        """Write the version, in the transaction that changes the tables."""
        connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.exec_driver_sql(f"PRAGMA user_version = {number}")

    def used_bytes(self, connection: Connection) -> int:
        """Return the bytes stored, without the room that deletions left."""
        pages, free, size = (
            int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())
            for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * size


class SqliteReader(SqliteBackend):
    """The same of a file that cannot be written now, because its disk is full or read-only."""

    def open(self, busy_timeout_s: float) -> tuple[Engine, Engine]:
        query = {"uri": "true", "mode": "ro"}
        log = Path(f"{self.path}-wal")
        if not log.exists() or not log.stat().st_size:
            query["immutable"] = "1"  # nobody writes, and readers need no room for what they share
        url = URL.create("sqlite", database=self.path.as_uri(), query=query)
        return _make_engine(url, busy_timeout_s), super().open(busy_timeout_s)[1]


def enable_wal(connection: sqlite3.Connection, busy_timeout_s: float) -> None:
    """Let readers and a writer work at once, where the file system can."""
    deadline = time.monotonic() + busy_timeout_s
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
            return
        except sqlite3.OperationalError as error:
            # Two processes that switch a blank file at once would deadlock, so SQLite reports
            # "locked" to one of them without waiting for the busy timeout.
            is_busy = health.sqlite_primary_code(error) == sqlite3.SQLITE_BUSY
            if not is_busy or time.monotonic() >= deadline:
                raise
            time.sleep(_WAL_RETRY_S)


def _make_engine(url: URL, busy_timeout_s: float) -> Engine:
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=_POOL_SIZE,
        max_overflow=-1,
        # isolation_level None: sqlite3 begins nothing by itself, the begin hook does.
        connect_args={
            "timeout": busy_timeout_s,
            "isolation_level": None,
            "check_same_thread": False,
        },
    )

    def begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        connection.exec_driver_sql(options.get("begin_statement", "BEGIN"))

    event.listen(engine, "begin", begin)
    return engine
