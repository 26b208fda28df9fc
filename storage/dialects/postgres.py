"""PostgreSQL: one database for many machines, row locks instead of one writer at a time."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from storage import errors

DRIVER = "psycopg"
EXAMPLE = "postgresql://USER:PASSWORD@HOST:5432/DATABASE"
MINIMUM_SERVER = 12  # older ones are no longer maintained
_VERSION_TABLE = "sol_schema"
_LOCK_KEY = 0x534F4C78  # "SOLx"; advisory locks have numbers
_POOL_SIZE, _MAX_CONNECTIONS = 4, 16  # a server allows 100 in all unless told otherwise
_CONNECT_S = 10
# A machine that went away with a transaction open must not hold its rows for hours.
_SESSION = {
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "idle_in_transaction_session_timeout": "60s",
}
# SQLSTATEs: lock_not_available, query_canceled, serialization_failure, deadlock_detected.
_LOCKED = frozenset({"55P03", "57014", "40001", "40P01"})
_CORRUPT = frozenset({"XX001", "XX002"})
_NOT_ALLOWED = frozenset({"42501", "25006"})  # insufficient_privilege, read_only_sql_transaction
# connection exceptions; out of disk, memory or connections; shutdown and restart; I/O errors.
_GONE_CLASSES = ("08", "53", "57P", "58")


class PostgresBackend:
    """A URL's database; no message holds a part of the URL that may belong to the password."""

    def __init__(self, location: str) -> None:
        self._url = _parse(location)
        # Not the query either, which may hold a password too.
        self.shown = sa.URL.create(
            "postgresql",
            username=self._url.username,
            host=self._url.host,
            port=self._url.port,
            database=self._url.database,
        ).render_as_string()

    def prepare(self, busy_timeout_s: float) -> tuple[str, ...]:
        """Look whether it can be used before it is. Raises: DatabaseConnectionError."""
        with self._probing():
            return ()

    def look(self, busy_timeout_s: float) -> tuple[int, int] | None:
        with self._probing() as connection:
            if not sa.inspect(connection).has_table(_VERSION_TABLE):
                return None
            runs = connection.execute(sa.text("SELECT count(*) FROM runs")).scalar_one()
            return self.schema_version(connection), int(runs)

    def open(self, busy_timeout_s: float) -> tuple[sa.Engine, sa.Engine]:
        engine = sa.create_engine(
            self._url,
            poolclass=sa.QueuePool,
            pool_size=_POOL_SIZE,
            max_overflow=_MAX_CONNECTIONS - _POOL_SIZE,
            pool_timeout=busy_timeout_s,
            pool_pre_ping=True,  # the server may have been restarted meanwhile
            connect_args=self._connect_args(),
        )
        settings = {**_SESSION, "lock_timeout": f"{max(round(busy_timeout_s * 1000), 1)}ms"}

        def set_up(connection: Any, _record: Any) -> None:
            with connection.cursor() as cursor:
                for name, value in settings.items():
                    cursor.execute("SELECT set_config(%s, %s, false)", (name, value))
            connection.commit()

        sa.event.listen(engine, "connect", set_up)
        reader = engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
        return reader, engine.execution_options(isolation_level="READ COMMITTED")

    def storage_error(self, error: BaseException | None) -> errors.StorageError:
        return storage_error_from_postgres(self.shown, error)

    def lock_schema(self, connection: sa.Connection) -> None:
        """Keep other processes from migrating until this write transaction ends."""
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})

    def schema_version(self, connection: sa.Connection) -> int:
        tables = sa.inspect(connection)
        if tables.has_table(_VERSION_TABLE):
            return int(
                connection.execute(sa.text(f"SELECT version FROM {_VERSION_TABLE}")).scalar_one()
            )
        if tables.has_table("runs"):
            raise errors.DatabaseVersionError(
                f"The database {self.shown} has a table called runs that is another program's. "
                "It was left unchanged. Use a database or a schema of its own."
            )
        connection.execute(sa.text(f"CREATE TABLE {_VERSION_TABLE} (version BIGINT NOT NULL)"))
        connection.execute(sa.text(f"INSERT INTO {_VERSION_TABLE} VALUES (0)"))
        return 0

    def set_schema_version(self, connection: sa.Connection, number: int) -> None:
        connection.execute(
            sa.text(f"UPDATE {_VERSION_TABLE} SET version = :number"), {"number": number}
        )

    def used_bytes(self, connection: sa.Connection) -> None:
        return None  # it shrinks long after deletions; whoever runs the server bounds it

    @contextmanager
    def _probing(self) -> Iterator[sa.Connection]:
        """A connection of its own, whose failures say how to put things right."""
        if importlib.util.find_spec(DRIVER) is None:
            raise errors.DatabaseConnectionError(
                f"The database {self.shown} needs the package {DRIVER}, which is missing. "
                f"Install it with: {sys.executable} -m pip install '{DRIVER}[binary]>=3.2'"
            )
        engine = sa.create_engine(
            self._url, poolclass=sa.NullPool, connect_args=self._connect_args()
        )
        try:
            with engine.connect() as connection:
                major = int((connection.dialect.server_version_info or (0,))[0])
                if major < MINIMUM_SERVER:
                    raise errors.DatabaseVersionError(
                        f"The server of the database {self.shown} is PostgreSQL {major}; "
                        f"{MINIMUM_SERVER} or newer is needed."
                    )
                yield connection
        except SQLAlchemyError as error:
            reason = "an option of its URL is unknown or wrong"  # which the driver would quote
            if isinstance(error, DBAPIError) and type(error.orig).__name__ == "OperationalError":
                reason = " ".join(str(error.orig).split())
            raise errors.DatabaseConnectionError(
                f"The database {self.shown} cannot be opened ({reason}). Check host, port, user, "
                "password, database name and options of its URL, and that the server runs."
            ) from error

    def _connect_args(self) -> dict[str, Any]:
        return {} if "connect_timeout" in self._url.query else {"connect_timeout": _CONNECT_S}


def storage_error_from_postgres(shown: str, error: BaseException | None) -> errors.StorageError:
    """Say in words: one without a code is the client's, whose connection broke."""
    code = getattr(error, "sqlstate", None)
    is_broken = code is None and type(error).__name__ in ("OperationalError", "InterfaceError")
    if code in _LOCKED:
        return errors.DatabaseLockedError(
            f"A row of the database {shown} is locked by another process ({error}). "
            "Try again in a moment."
        )
    if code in _CORRUPT:
        return errors.DatabaseCorruptError(
            f"The database {shown} is damaged ({error}). Its administrator has to repair it."
        )
    if code in _NOT_ALLOWED:
        return errors.DatabaseWriteError(
            f"The user of the database {shown} may not do this ({error}). It needs the rights to "
            "create tables and to read and write them."
        )
    if is_broken or (code or "").startswith(_GONE_CLASSES):
        return errors.DatabaseWriteError(
            f"The database {shown} does not answer or cannot write ({error}). What waits is "
            "tried again; check the server, its disk and the network."
        )
    return errors.StorageError(f"The database {shown} refused the operation: {error}")


def _parse(location: str) -> sa.URL:
    problem = (
        f"The database's URL must look like {EXAMPLE}; signs such as @ : / ? # in user or password "
        "are written as %40 %3A %2F %3F %23."
    )
    try:
        url = sa.make_url(location)
    except (SQLAlchemyError, ValueError):
        # Without the cause: its text may quote a piece of the password.
        raise errors.DatabaseConnectionError(problem) from None
    if url.drivername not in ("postgresql", "postgres", f"postgresql+{DRIVER}"):
        raise errors.DatabaseConnectionError(problem)
    if not url.database or "@" in url.database or "@" in (url.host or ""):
        raise errors.DatabaseConnectionError(problem)
    return url.set(drivername=f"postgresql+{DRIVER}")
