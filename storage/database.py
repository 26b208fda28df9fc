"""Transactions on one database, and errors in the user's words.

A write that decides by what it has read locks the row first (``FOR UPDATE``): on PostgreSQL others
write meanwhile, on SQLite nobody does.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnectionFreeError

from storage.dialects.postgres import PostgresBackend
from storage.dialects.sqlite import SqliteBackend
from storage.errors import DatabaseLockedError, StorageError

Backend = SqliteBackend | PostgresBackend
# A reader or writer waits this long for others, then times out.
BUSY_TIMEOUT_S = 10.0


class Database:
    """A pool of connections for all threads of the process that made it; a fork opens its own."""

    def __init__(self, backend: Backend, busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
        self.backend = backend
        self.shown = backend.shown  # its name in messages
        self._busy_timeout_s = busy_timeout_s
        self._process_id = os.getpid()
        # Threads queue here; SQLite's own waiting between processes sleeps up to 100 ms a try.
        self._write_lock = Lock()
        self._reader, self._writer = backend.open(busy_timeout_s)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a read transaction: all its queries see the same moment. Raises: StorageError."""
        self._check_process()
        with self._translating(), self._reader.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Open a write transaction: committed at the block's end, rolled back by an exception."""
        self._check_process()
        # A thread may wait for the database's timeout while it holds the lock: allow for that.
        if not self._write_lock.acquire(timeout=2 * self._busy_timeout_s):
            raise self._busy("other writes of this program have waited")
        try:
            with self._translating(), self._writer.begin() as connection:
                yield connection
        finally:
            self._write_lock.release()

    def close(self) -> None:
        """Close the connections that are not in use; those in use close when they come back."""
        if os.getpid() == self._process_id:
            self._reader.dispose()
            self._writer.dispose()

    @contextmanager
    def _translating(self) -> Iterator[None]:
        """Turn what the driver and SQLAlchemy raise in the block into StorageError leaves."""
        try:
            yield
        except DBAPIError as error:
            raise self.backend.storage_error(error.orig) from error
        except NoConnectionFreeError as error:
            raise self._busy("every connection of this program has been in use") from error
        except SQLAlchemyError as error:
            raise StorageError(
                f"The database {self.shown} refused the operation: {error}"
            ) from error

    def _busy(self, reason: str) -> DatabaseLockedError:
        return DatabaseLockedError(
            f"The database {self.shown} is busy: {reason} for more than "
            f"{self._busy_timeout_s:g} s. Try again in a moment."
        )

    def _check_process(self) -> None:
        if os.getpid() != self._process_id:
            raise StorageError(
                f"The database {self.shown} was opened by process {self._process_id} and cannot "
                f"be used by its child {os.getpid()}. Call open_store in the child."
            )
