"""Open the database: the one entry point of the package."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from storage.database import BUSY_TIMEOUT_S, Backend, Database
from storage.dialects.postgres import PostgresBackend
from storage.dialects.sqlite import SqliteBackend, SqliteReader
from storage.errors import DatabaseWriteError
from storage.jobs import JobStore
from storage.runs import RunStore
from storage.schema import LATEST_VERSION, add_missing, check_version

_LOG = logging.getLogger(__name__)


class Store:
    """An open database. Close it, or use it in a ``with`` block.

    ``notices`` are sentences that the user should see.
    """

    def __init__(
        self, database: Database, notices: tuple[str, ...] = (), data_dir_id: str = ""
    ) -> None:
        self.notices: tuple[str, ...] = notices
        self.runs = RunStore(database, data_dir_id)
        self.jobs = JobStore(database, data_dir_id)
        self._database = database

    def used_bytes(self) -> int | None:
        """Size of what is saved; None where it is not known (PostgreSQL). Raises: StorageError."""
        with self._database.read() as connection:
            return self._database.backend.used_bytes(connection)

    def close(self) -> None:
        """Close every connection. Call it once the threads that use the store are done."""
        self._database.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """Facts about a database; the schema's version is None while it is missing or blank."""

    shown: str
    version: int | None
    num_runs: int


def database_facts(location: Path | str, busy_timeout_s: float = 2.0) -> DatabaseFacts:
    """Look without making or changing anything. Raises: as ``open_store``."""
    backend = _backend(location)
    facts = backend.look(busy_timeout_s)
    if facts is not None:
        check_version(backend.shown, facts[0])
    return DatabaseFacts(backend.shown, *(facts or (None, 0)))


def open_store(
    location: Path | str,
    *,
    data_dir_id: str = "",
    busy_timeout_s: float = BUSY_TIMEOUT_S,
    writes: bool = True,
) -> Store:
    """Open the database, an SQLite file or a URL, made or brought up to date as needed.

    A damaged SQLite file is kept aside as ``<name>.corrupt-…``, and a notice says so. Without
    ``writes`` an up-to-date file that cannot be written is opened for reading.

    Raises: DatabaseVersionError, DatabaseLockedError (beyond ``busy_timeout_s``),
    DatabaseWriteError, DatabaseConnectionError.
    """
    try:
        return _opened(_backend(location), data_dir_id, busy_timeout_s)
    except DatabaseWriteError:
        if writes or not isinstance(location, Path):
            raise
        database = Database(SqliteReader(location), busy_timeout_s)
        with database.read() as connection:
            if database.backend.schema_version(connection) != LATEST_VERSION:
                raise
        return Store(database, (), data_dir_id)


def _opened(backend: Backend, data_dir_id: str, busy_timeout_s: float) -> Store:
    notices = backend.prepare(busy_timeout_s)
    for notice in notices:
        _LOG.warning(notice)
    database = Database(backend, busy_timeout_s)
    try:
        migrate(database)
    except BaseException:
        database.close()
        raise
    return Store(database, notices, data_dir_id)


def migrate(database: Database) -> int:
    """Bring the database to today's schema; return the version it had before.

    A write transaction is begun even when nothing is to do, so that a read-only file is found now.
    Raises: StorageError.
    """
    backend = database.backend
    with database.write() as connection:
        backend.lock_schema(connection)
        version = backend.schema_version(connection)
        check_version(database.shown, version)
        if version < LATEST_VERSION:
            add_missing(connection)
            backend.set_schema_version(connection, LATEST_VERSION)
    return version


def _backend(location: Path | str) -> Backend:
    return SqliteBackend(location) if isinstance(location, Path) else PostgresBackend(location)
