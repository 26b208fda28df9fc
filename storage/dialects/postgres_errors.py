"""PostgreSQL's error codes in the user's words."""

from __future__ import annotations

from storage.errors import (
    DatabaseCorruptError,
    DatabaseLockedError,
    DatabaseWriteError,
    StorageError,
)

# SQLSTATEs: lock_not_available, query_canceled, serialization_failure, deadlock_detected.
_LOCKED = frozenset({"55P03", "57014", "40001", "40P01"})
_CORRUPT = frozenset({"XX001", "XX002"})
_NOT_ALLOWED = frozenset({"42501", "25006"})  # insufficient_privilege, read_only_sql_transaction
# connection exceptions; out of disk, memory or connections; shutdown and restart; I/O errors.
_GONE_CLASSES = ("08", "53", "57P", "58")


def storage_error_from_postgres(shown: str, error: BaseException | None) -> StorageError:
    """The storage error that says what ``error`` means and what to do about it.

    Args:
        shown: the database in messages.
        error: psycopg's. One without a code comes from the client's side: the connection broke.
    """
    code = getattr(error, "sqlstate", None)
    is_broken = code is None and type(error).__name__ in ("OperationalError", "InterfaceError")
    if code in _LOCKED:
        return DatabaseLockedError(
            f"A row of the database {shown} is locked by another process ({error}). "
            "Try again in a moment."
        )
    if code in _CORRUPT:
        return DatabaseCorruptError(
            f"The database {shown} is damaged ({error}). Its administrator has to repair it."
        )
    if code in _NOT_ALLOWED:
        return DatabaseWriteError(
            f"The user of the database {shown} may not do this ({error}). It needs the rights to "
            "create tables and to read and write them."
        )
    if is_broken or (code or "").startswith(_GONE_CLASSES):
        return DatabaseWriteError(
            f"The database {shown} does not answer or cannot write ({error}). What waits is "
            "tried again; check the server, its disk and the network."
        )
    return StorageError(f"The database {shown} refused the operation: {error}")
