"""The storage package's error hierarchy.

StorageError
├── NotFoundError (LookupError)             no run or job has this id
├── JobStateError (RuntimeError)            a job in a state that does not allow this
├── InvalidRecordError (ValueError)         a value that cannot be stored, such as NaN in JSON
├── DatabaseVersionError (RuntimeError)     written by a newer release, or by another program
├── DatabaseCorruptError (RuntimeError)     damage found in the file
├── DatabaseLockedError (TimeoutError)      another process held it longer than the timeout
└── DatabaseWriteError (OSError)            read-only, full, missing or unreadable place

Messages name the file or value, what is allowed, and what to do. ``app`` shows them as they are.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

__all__ = [
    "DatabaseCorruptError",
    "DatabaseLockedError",
    "DatabaseVersionError",
    "DatabaseWriteError",
    "InvalidRecordError",
    "JobStateError",
    "NotFoundError",
    "StorageError",
    "sqlite_primary_code",
    "storage_error_from_sqlite",
]


class StorageError(Exception):
    """Root of every error this package raises on purpose."""


class NotFoundError(StorageError, LookupError):
    """No run or job has this id: it was deleted, or never existed."""


class JobStateError(StorageError, RuntimeError):
    """A job that is not in a state that allows this, or not this worker's."""


class InvalidRecordError(StorageError, ValueError):
    """A value that cannot be stored and read back unchanged."""


class DatabaseVersionError(StorageError, RuntimeError):
    """The file holds a schema that this release does not know. It is left as it is."""


class DatabaseCorruptError(StorageError, RuntimeError):
    """The file is damaged, or is no SQLite database."""


class DatabaseLockedError(StorageError, TimeoutError):
    """Another process kept the database locked for longer than the busy timeout."""


class DatabaseWriteError(StorageError, OSError):
    """The database cannot be opened, read or written where it lies."""


# Primary result codes of SQLite; extended codes carry them in the low 8 bits.
_LOCKED_CODES = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})
_CORRUPT_CODES = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_WRITE_CODES = frozenset(
    {
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
    }
)


def sqlite_primary_code(error: BaseException | None) -> int:
    """SQLite's primary result code of ``error``; 0 when SQLite itself raised none."""
    # The sqlite3 module sets the attribute only on errors that come out of the SQLite library.
    code = getattr(error, "sqlite_errorcode", 0)
    return int(code) & 0xFF


def storage_error_from_sqlite(path: Path, error: BaseException | None) -> StorageError:
    """The storage error that says what ``error`` means for the user and what to do about it."""
    code = sqlite_primary_code(error)
    if code in _LOCKED_CODES:
        return DatabaseLockedError(
            f"The database {path} is locked by another process ({error}). "
            "Close the other program that uses it, or choose another data directory."
        )
    if code in _CORRUPT_CODES:
        return DatabaseCorruptError(
            f"The database {path} is damaged ({error}). Stop the program and start it again: "
            "a damaged file is kept aside and a new database is made. "
            "If the error comes back, move the file away yourself."
        )
    if code in _WRITE_CODES:
        return DatabaseWriteError(
            f"The database {path} cannot be opened or written ({error}). Check that its folder "
            "exists, is writable and has free space, or choose another data directory."
        )
    return StorageError(f"The database {path} refused the operation: {error}")
