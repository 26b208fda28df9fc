"""Runs and settings in SQLite. Knows SQLAlchemy and the standard library only.

``open_store(path)`` gives a ``Store``; ``Store.runs`` keeps generation runs and their token
events. Every error is a ``StorageError``; see ``storage.errors`` for the leaves.
"""

from storage.errors import (
    DatabaseCorruptError,
    DatabaseLockedError,
    DatabaseVersionError,
    DatabaseWriteError,
    InvalidRecordError,
    NotFoundError,
    StorageError,
)
from storage.records import RunRecord, RunStatus
from storage.runs import RunStore
from storage.store import Store, open_store

__all__ = [
    "DatabaseCorruptError",
    "DatabaseLockedError",
    "DatabaseVersionError",
    "DatabaseWriteError",
    "InvalidRecordError",
    "NotFoundError",
    "RunRecord",
    "RunStatus",
    "RunStore",
    "StorageError",
    "Store",
    "open_store",
]
