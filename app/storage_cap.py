"""Keeps what visitors save within the limits: the oldest goes first."""

from __future__ import annotations

import logging
import threading
import time

from app.limits import UNLIMITED, Limits
from storage import StorageError, Store

__all__ = ["StorageCap"]

logger = logging.getLogger(__name__)
EVERY_S = 5.0
AT_ONCE = 20  # runs and challenges that go in one step
MAX_STEPS = 100


class StorageCap:
    """Deletes old runs and challenges while there are too many; does nothing without limits."""

    def __init__(self, store: Store, limits: Limits) -> None:
        self._store, self._limits = store, limits
        self._lock = threading.Lock()
        self._next_at = 0.0

    def enforce_now_and_then(self) -> None:
        """``enforce``, at most every ``EVERY_S``; trouble with the database is for later."""
        if time.monotonic() < self._next_at:
            return
        self._next_at = time.monotonic() + EVERY_S
        try:
            self.enforce()
        except StorageError as error:
            logger.warning("old runs could not be deleted: %s", error)

    def enforce(self) -> None:
        """Delete what is beyond the limits. Raises: StorageError."""
        with self._lock:
            if self._limits.kept_runs != UNLIMITED:
                self._store.runs.delete_beyond(self._limits.kept_runs)
            if self._limits.kept_mb != UNLIMITED:
                self._shrink_to(self._limits.kept_mb * 1024**2)

    def _shrink_to(self, max_bytes: int) -> None:
        for _ in range(MAX_STEPS):
            used = self._store.used_bytes()
            if used is None or used <= max_bytes:
                return
            runs = self._store.runs.delete_oldest(AT_ONCE)
            if runs + self._store.challenges.delete_oldest(AT_ONCE) == 0:
                return
