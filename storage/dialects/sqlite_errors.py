"""SQLite's result codes in the user's words."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.errors import (
    DatabaseCorruptError,
    DatabaseLockedError,
    DatabaseWriteError,
    StorageError,
)

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


@contextmanager
def translate_sqlite_errors(path: Path) -> Iterator[None]:
    """Turn what sqlite3 raises in the block into StorageError leaves."""
    try:
        yield
    except sqlite3.Error as error:
        raise storage_error_from_sqlite(path, error) from error
