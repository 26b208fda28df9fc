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
    """A database whose schema this release does not know; it is left as it is."""


class DatabaseConnectionError(StorageError, ConnectionError):
    """A database server that was not reached when the program started, or let nobody in."""


class DatabaseCorruptError(StorageError, RuntimeError):
    """A damaged database, or a file that is none."""


class DatabaseLockedError(StorageError, TimeoutError):
    """A database, or a row of it, that others locked for longer than the busy timeout."""


class DatabaseWriteError(StorageError, OSError):
    """A database that cannot be opened, read or written, or whose server went away."""
