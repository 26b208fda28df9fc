"""One SQLite file: connections, transactions, and errors in the user's words.

The connect hook is the only place that sets pragmas. ``read`` and ``write`` are the only ways
in: each is one short transaction on a pooled connection that always goes back. Writers begin
with BEGIN IMMEDIATE, so they wait for their turn at the start instead of failing half way.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

from sqlalchemy import URL, Connection, Engine, QueuePool, create_engine, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from storage.errors import (
    DatabaseLockedError,
    StorageError,
    sqlite_primary_code,
    storage_error_from_sqlite,
)

__all__ = ["BUSY_TIMEOUT_S", "Database", "enable_wal", "translate_errors"]

# How long a reader or writer waits for another process before it gives up.
BUSY_TIMEOUT_S = 10.0
# Connections kept open; more are opened when more threads work at once, and closed afterwards.
_POOL_SIZE = 4
_WAL_RETRY_S = 0.02


class Database:
    """A pool of connections to one file, for all threads of the process that made it.

    A forked child must open its own: SQLite connections do not survive a fork.
    """

    def __init__(self, path: Path, busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
        self.path = path
        self._busy_timeout_s = busy_timeout_s
        self._process_id = os.getpid()
        # Threads queue here; SQLite's own waiting between processes sleeps up to 100 ms a try.
        self._write_lock = Lock()
        self._reader = _make_engine(path, busy_timeout_s)
        self._writer = self._reader.execution_options(begin_statement="BEGIN IMMEDIATE")

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One read transaction: all its queries see the same moment.

        Raises: DatabaseLockedError, DatabaseWriteError, DatabaseCorruptError, StorageError.
        """
        self._check_process()
        with translate_errors(self.path), self._reader.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One write transaction: committed at the end of the block, rolled back by an exception.

        Raises: DatabaseLockedError, DatabaseWriteError, DatabaseCorruptError, StorageError.
        """
        self._check_process()
        # A thread may wait for SQLite's timeout while it holds the lock: allow for that.
        if not self._write_lock.acquire(timeout=2 * self._busy_timeout_s):
            raise DatabaseLockedError(
                f"The database {self.path} is busy: other writes of this program have waited for "
                f"more than {self._busy_timeout_s:g} s. Try again in a moment."
            )
        try:
            with translate_errors(self.path), self._writer.begin() as connection:
                yield connection
        finally:
            self._write_lock.release()

    def used_bytes(self) -> int:
        """What the file holds, without the room that deletions left in it for later."""
        with self.read() as connection:
            pages, free, size = (
                int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())
                for name in ("page_count", "freelist_count", "page_size")
            )
        return (pages - free) * size

    def close(self) -> None:
        """Close the connections that are not in use; those in use close when they come back."""
        if os.getpid() == self._process_id:
            self._reader.dispose()

    def _check_process(self) -> None:
        if os.getpid() != self._process_id:
            raise StorageError(
                f"The database {self.path} was opened by process {self._process_id} and cannot be "
                f"used by its child {os.getpid()}. Call open_store in the child."
            )


@contextmanager
def translate_errors(path: Path) -> Iterator[None]:
    """Turn what sqlite3 and SQLAlchemy raise in the block into StorageError leaves."""
    try:
        yield
    except DBAPIError as error:
        raise storage_error_from_sqlite(path, error.orig) from error
    except sqlite3.Error as error:
        raise storage_error_from_sqlite(path, error) from error
    except SQLAlchemyError as error:
        raise StorageError(f"The database {path} refused the operation: {error}") from error


def enable_wal(connection: sqlite3.Connection, busy_timeout_s: float) -> None:
    """Switch to write-ahead logging, so that readers and one writer do not block each other.

    A file system that cannot (shared memory missing) keeps its journal mode; all else works.

    Raises: sqlite3.OperationalError when other processes hold the file beyond the timeout.
    """
    deadline = time.monotonic() + busy_timeout_s
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            # Two processes that switch a blank file at once would deadlock, so SQLite reports
            # "locked" to one of them without waiting for the busy timeout.
            is_busy = sqlite_primary_code(error) == sqlite3.SQLITE_BUSY
            if not is_busy or time.monotonic() >= deadline:
                raise
            time.sleep(_WAL_RETRY_S)
        else:
            return


def _make_engine(path: Path, busy_timeout_s: float) -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
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

    def set_pragmas(connection: sqlite3.Connection, _record: Any) -> None:
        enable_wal(connection, busy_timeout_s)
        connection.execute(f"PRAGMA busy_timeout = {round(busy_timeout_s * 1000)}")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = NORMAL")

    def begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        connection.exec_driver_sql(options.get("begin_statement", "BEGIN"))

    event.listen(engine, "connect", set_pragmas)
    event.listen(engine, "begin", begin)
    return engine
