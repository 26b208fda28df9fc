"""Open the database file: the one entry point of the package."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from types import TracebackType

from storage.challenges import ChallengeStore
from storage.database import BUSY_TIMEOUT_S, Database
from storage.errors import DatabaseWriteError
from storage.inspection import set_aside_if_corrupt
from storage.jobs import JobStore
from storage.looks import LookStore
from storage.migrations import migrate
from storage.mounts import network_notice
from storage.runs import RunStore

__all__ = ["Store", "open_store"]

_LOG = logging.getLogger(__name__)


class Store:
    """An open database. Close it, or use it in a ``with`` block.

    Attributes:
        path: the file, symbolic links resolved.
        notices: sentences that the user should see, such as that a damaged file was kept aside.
        runs: the generation runs.
        jobs: training and evaluation in the background.
        challenges: texts scheduled by hand, and their scoreboards.
        looks: what came in a file of a look into a run's token.
    """

    def __init__(self, database: Database, notices: tuple[str, ...]) -> None:
        self.path: Path = database.path
        self.notices: tuple[str, ...] = notices
        self.runs = RunStore(database)
        self.jobs = JobStore(database)
        self.challenges = ChallengeStore(database)
        self.looks = LookStore(database)
        self._database = database

    def used_bytes(self) -> int:
        """Size of what is saved. Raises: StorageError."""
        return self._database.used_bytes()

    def close(self) -> None:
        """Close every connection. Call it once the threads that use the store are done."""
        self._database.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def open_store(path: Path, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> Store:
    """Open the database, made or brought up to date as needed.

    A damaged file is renamed to ``<name>.corrupt-YYYYmmdd-HHMMSS`` (UTC) with its companions,
    a new database takes its place, and ``Store.notices`` says so.

    Args:
        path: the SQLite file; it and its folders are made when missing.
        busy_timeout_s: how long this and later calls wait for other processes, seconds.

    Raises:
        DatabaseVersionError: a newer release or another program made the file; left unchanged.
        DatabaseLockedError: another process held it for longer than ``busy_timeout_s``.
        DatabaseWriteError: the place is read-only, full or no folder.
    """
    path = Path(os.path.realpath(path))
    _make_directory(path.parent)
    found = (network_notice(path), set_aside_if_corrupt(path, busy_timeout_s))
    notices = tuple(notice for notice in found if notice is not None)
    for notice in notices:
        _LOG.warning(notice)
    database = Database(path, busy_timeout_s)
    try:
        migrate(database)
    except BaseException:
        database.close()
        raise
    return Store(database, notices)


def _make_directory(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatabaseWriteError(
            f"The folder {directory} for the database cannot be made ({error}). "
            "Choose another data directory."
        ) from error
