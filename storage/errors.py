"""Errors of storage. Messages name the file or value, what is allowed, and what to do."""

from __future__ import annotations


class StorageError(Exception):
    """Root of every error this package raises on purpose."""


class NotFoundError(StorageError, LookupError):
    """No run or job has this id: it was deleted, or never existed."""


class JobStateError(StorageError, RuntimeError):
    """A job that is not in a state that allows this, or not this worker's."""


class InvalidRecordError(StorageError, ValueError):
    """A value that cannot be stored and read back unchanged."""


class DatabaseVersionError(StorageError, RuntimeError):
    """It holds a schema that this release does not know. It is left as it is."""


class DatabaseConnectionError(StorageError, ConnectionError):
    """A database server that was not reached when the program started, or let nobody in."""


class DatabaseCorruptError(StorageError, RuntimeError):
    """Damage was found, or the file is no SQLite database."""


class DatabaseLockedError(StorageError, TimeoutError):
    """Others kept the database, or a row of it, locked for longer than the busy timeout."""


class DatabaseWriteError(StorageError, OSError):
    """The database cannot be opened, read or written where it lies, or its server went away."""
