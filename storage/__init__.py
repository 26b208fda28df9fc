"""Runs and jobs in SQLite or PostgreSQL: rows, JSON and transactions.

``open_store(location)`` gives a ``Store``: ``runs`` with their token events, background ``jobs``.
Every error is a ``StorageError``.
"""

from storage.errors import (
    DatabaseLockedError,
    DatabaseWriteError,
    JobStateError,
    NotFoundError,
    StorageError,
)
from storage.jobs import JobStore
from storage.records import (
    TASKS_JOB,
    JobControl,
    JobKind,
    JobRecord,
    JobStatus,
    RestoredRun,
    RunKind,
    RunRecord,
    RunStatus,
    StoredSize,
    title_of,
)
from storage.runs import RunStore, new_run_id
from storage.store import Store, database_facts, open_store

__all__ = [
    "TASKS_JOB",
    "DatabaseLockedError",
    "DatabaseWriteError",
    "JobControl",
    "JobKind",
    "JobRecord",
    "JobStateError",
    "JobStatus",
    "JobStore",
    "NotFoundError",
    "RestoredRun",
    "RunKind",
    "RunRecord",
    "RunStatus",
    "RunStore",
    "StorageError",
    "Store",
    "StoredSize",
    "database_facts",
    "new_run_id",
    "open_store",
    "title_of",
]
