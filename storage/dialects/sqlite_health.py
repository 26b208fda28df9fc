"""SQLite's result codes in the user's words, and a look at a file before it is used.

A damaged file is kept aside, never deleted.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from storage import errors
from storage.schema import APPLICATION_ID, check_version

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
# Larger files are not read through at every start; damage is then reported when it is met.
FULL_CHECK_BYTES = 256 * 1024 * 1024
# In this order: without its main file a -wal would be taken for rubbish and removed by SQLite.
_SUFFIXES = ("-wal", "-shm", "-journal", "")
_BEING_MADE_S = 1.0  # a file that another process is making has its first page in an instant


def sqlite_primary_code(error: BaseException | None) -> int:
    """SQLite's primary result code of ``error``; 0 when SQLite itself raised none."""
    # The sqlite3 module sets the attribute only on errors that come out of the SQLite library.
    code = getattr(error, "sqlite_errorcode", 0)
    return int(code) & 0xFF


def storage_error_from_sqlite(path: Path, error: BaseException | None) -> errors.StorageError:
    """The storage error that says what ``error`` means for the user and what to do about it."""
    code = sqlite_primary_code(error)
    if code in _LOCKED_CODES:
        return errors.DatabaseLockedError(
            f"The database {path} is locked by another process ({error}). "
            "Close the other program that uses it, or choose another data directory."
        )
    if code in _CORRUPT_CODES:
        return errors.DatabaseCorruptError(
            f"The database {path} is damaged ({error}). Stop the program and start it again: "
            "a damaged file is kept aside and a new database is made. "
            "If the error comes back, move the file away yourself."
        )
    if code in _WRITE_CODES:
        return errors.DatabaseWriteError(
            f"The database {path} cannot be opened or written ({error}). Check that its folder "
            "exists, is writable and has free space, or choose another data directory."
        )
    return errors.StorageError(f"The database {path} refused the operation: {error}")


@contextmanager
def translate_sqlite_errors(path: Path) -> Iterator[None]:
    """Turn what sqlite3 raises in the block into StorageError leaves."""
    try:
        yield
    except sqlite3.Error as error:
        raise storage_error_from_sqlite(path, error) from error


def set_aside_if_corrupt(path: Path, busy_timeout_s: float) -> str | None:
    """Rename a damaged database; return a sentence for the user, or None without damage."""
    try:
        with _directory_lock(path.parent, exclusive=False):
            inspect_database(path, busy_timeout_s)
            return None
    except errors.DatabaseCorruptError:
        pass
    with _directory_lock(path.parent, exclusive=True):
        # Another process may have done it meanwhile: look again, now that no other can.
        try:
            inspect_database(path, busy_timeout_s)
        except errors.DatabaseCorruptError as error:
            kept = _set_aside(path)
            return (
                f"{error} It was kept aside as {kept}, and a new, empty database was made. "
                "Earlier runs are not listed any more."
            )
    return None


def notice_if_empty(path: Path) -> str | None:
    """A sentence for the user about a file of 0 bytes, which SQLite takes for a new database."""
    gives_up_at = time.monotonic() + _BEING_MADE_S
    while _is_empty(path):
        if time.monotonic() > gives_up_at:
            return (
                f"The database {path} had 0 bytes, as a full disk or a damaged file system leaves "
                "it, and a new one was begun in it: earlier runs and jobs are not listed any more. "
                "If you have a copy of it, end the program and put the copy there."
            )
        time.sleep(0.02)
    return None


def _is_empty(path: Path) -> bool:
    try:
        return path.stat().st_size == 0
    except OSError:  # there is none, or whoever opens it will say more
        return False


def inspect_database(path: Path, busy_timeout_s: float) -> None:
    """Return if ``path`` is missing, blank or a sound database of ours. Raises: StorageError."""
    if not os.path.exists(path):  # Path.exists raises where a folder may not be searched
        return
    with translate_sqlite_errors(path):
        try:
            _inspect(path, path, "ro", busy_timeout_s)
        except sqlite3.OperationalError as error:
            if sqlite_primary_code(error) != sqlite3.SQLITE_READONLY:
                raise
            _inspect_copy(path, busy_timeout_s)


def _inspect_copy(path: Path, busy_timeout_s: float) -> None:
    """Inspect a copy of what a crashed writer left: SQLite would use up its -journal."""
    try:
        with TemporaryDirectory(prefix=f"{path.name}.check-", dir=path.parent) as folder:
            copy = Path(folder) / path.name
            for suffix in ("-wal", "-journal", ""):
                if Path(f"{path}{suffix}").exists():
                    shutil.copyfile(f"{path}{suffix}", f"{copy}{suffix}")
            _inspect(path, copy, "rw", busy_timeout_s)
    except OSError as error:
        if isinstance(error, errors.StorageError):
            raise
        raise errors.DatabaseWriteError(
            f"The database {path} needs a repair after a crash, which its folder does not allow "
            f"({error}). Check that the folder is writable and has free space."
        ) from error


def _inspect(path: Path, opened: Path, mode: str, busy_timeout_s: float) -> None:
    """Inspect the file ``opened``, which stands for ``path`` in messages."""
    uri = f"{opened.as_uri()}?mode={mode}"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=busy_timeout_s)) as connection:
            # One snapshot: another process may be making the tables between two questions.
            connection.execute("BEGIN")
            check_version(str(path), _scalar(connection, "PRAGMA user_version"))
            application_id = _scalar(connection, "PRAGMA application_id")
            num_tables = _scalar(connection, "SELECT count(*) FROM sqlite_master")
            if num_tables and application_id != APPLICATION_ID:
                raise errors.DatabaseVersionError(
                    f"{path} is a database of another program. It was left unchanged. "
                    "Move it away, or choose another data directory."
                )
            if opened.stat().st_size <= FULL_CHECK_BYTES:
                finding = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
                if finding != "ok":
                    raise _corrupt(path, " ".join(finding.split()))
    except sqlite3.DatabaseError as error:
        if sqlite_primary_code(error) in _CORRUPT_CODES:
            raise _corrupt(path, str(error)) from error
        raise


def _corrupt(path: Path, finding: str) -> errors.DatabaseCorruptError:
    return errors.DatabaseCorruptError(f"The database {path} is damaged ({finding}).")


def _scalar(connection: sqlite3.Connection, statement: str) -> int:
    return int(connection.execute(statement).fetchone()[0])


def _set_aside(path: Path) -> Path:
    """Rename the database and its companions to a name that is free; return the new name."""
    stem = f"{path.name}.corrupt-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    kept, attempt = path.with_name(stem), 1
    while any(Path(f"{kept}{suffix}").exists() for suffix in _SUFFIXES):
        attempt += 1
        kept = path.with_name(f"{stem}-{attempt}")
    try:
        for suffix in _SUFFIXES:
            companion = Path(f"{path}{suffix}")
            if companion.exists():
                companion.rename(f"{kept}{suffix}")
    except OSError as error:
        raise errors.DatabaseWriteError(
            f"The database {path} is damaged and could not be renamed to {kept.name} ({error}). "
            "Close other programs that use it, or move it away yourself."
        ) from error
    return kept


@contextmanager
def _directory_lock(directory: Path, *, exclusive: bool) -> Iterator[None]:
    """Many processes may look at files in ``directory`` at once, but one alone renames them."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    with ExitStack() as stack:
        # SQLite's own error says more about a folder that cannot be opened or locked.
        with suppress(OSError):
            descriptor = os.open(directory, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        yield
