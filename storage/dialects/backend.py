"""Interface of a database backend."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from sqlalchemy import Connection, Engine

from storage.errors import StorageError


class Backend(ABC):
    """One database of one kind.

    Attributes:
        shown: how messages and logs name it; never holds a password.
        path: the file, where it is one.
    """

    shown: str
    path: Path | None = None

    @abstractmethod
    def prepare(self, busy_timeout_s: float) -> tuple[str, ...]:
        """Look whether it can be used before it is; returns notices for the user.

        Raises: DatabaseConnectionError, DatabaseVersionError, DatabaseLockedError,
            DatabaseWriteError.
        """

    @abstractmethod
    def look(self, busy_timeout_s: float) -> tuple[int, int] | None:
        """Schema version and number of runs, read without changing anything; None for a blank.

        Raises: as ``prepare``.
        """

    @abstractmethod
    def open(self, busy_timeout_s: float) -> tuple[Engine, Engine]:
        """Engines for reading and for writing, on one pool of connections.

        All queries of a reader's transaction see the same moment; a writer waits for others for
        at most ``busy_timeout_s``.
        """

    @abstractmethod
    def storage_error(self, error: BaseException | None) -> StorageError:
        """Turn an error of the driver into its meaning for the user, with what to do about it."""

    @abstractmethod
    def lock_schema(self, connection: Connection) -> None:
        """Keep other processes from migrating until this write transaction ends."""

    @abstractmethod
    def schema_version(self, connection: Connection) -> int:
        """The version that ``set_schema_version`` wrote last; 0 for a blank database.

        Raises: DatabaseVersionError when the tables are another program's.
        """

    @abstractmethod
    def set_schema_version(self, connection: Connection, number: int) -> None:
        """Write the version, in the transaction that changes the tables."""

    @abstractmethod
    def create(self, connection: Connection, statement: str) -> None:
        """Run a migration's statement, which is written in SQLite's words."""

    @abstractmethod
    def used_bytes(self, connection: Connection) -> int | None:
        """Return the bytes stored, without the room that deletions left; None if unknown."""
