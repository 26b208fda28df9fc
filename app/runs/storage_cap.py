"""Keeps visitors' runs within the limits; deletes the oldest run of the owner who stores most."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Sequence

from app.host.limits import UNLIMITED, Limits
from storage import RunSize, StorageError, Store

logger = logging.getLogger(__name__)
EVERY_S = 5.0
MOST_AT_ONCE = 500  # runs
MAX_STEPS = 100
SHRINK_TO = 0.95  # of the limit: to find who has most, the whole database is read


class StorageCap:
    """Deletes old runs while there are too many; does nothing without limits."""

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
            sizes = self._store.runs.sizes()
            # A share, because the database takes half as much again as what is in it.
            share = 1 - SHRINK_TO * max_bytes / used
            num_bytes = math.ceil(share * sum(run.num_bytes for run in sizes))
            if self._store.runs.delete_ended(fair_choice(sizes, num_bytes)) == 0:
                return


def fair_choice(sizes: Sequence[RunSize], num_bytes: int) -> list[str]:
    """The ids of runs to delete, ``num_bytes`` in all or ``MOST_AT_ONCE`` of them.

    One after another, it is the oldest one of the owner who has most at that point; of equals, the
    older run. So nobody loses a run to somebody who keeps more.
    ``sizes`` are of all runs, oldest first.
    """
    held: Counter[bytes] = Counter()
    order = []
    for age, run in reversed(list(enumerate(sizes))):
        held[run.owner] += run.num_bytes  # from this run on: what its owner has when it is next
        order.append((-held[run.owner], age))
    chosen: list[str] = []
    for _, age in sorted(order)[:MOST_AT_ONCE]:
        if num_bytes <= 0:
            break
        chosen.append(sizes[age].id)
        num_bytes -= sizes[age].num_bytes
    return chosen
