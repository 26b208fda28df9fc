"""Keeps visitors' runs and jobs within the limits; the oldest of who stores most are deleted.

Ended jobs may take a tenth of the limit and what runs leave; runs may take the rest and what jobs
leave. So nobody's runs are deleted for somebody else's jobs, nor the other way round.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress

from app.host.limits import UNLIMITED, Limits
from storage import JobStateError, NotFoundError, StorageError, Store, StoredSize
from storage.records import ENDED_STATUSES, LIVE_STATUSES

logger = logging.getLogger(__name__)
EVERY_S = 5.0
MOST_AT_ONCE = 500  # runs
MAX_STEPS = 100
SHRINK_TO = 0.95  # of the limit: to find who has most, the whole database is read
JOBS_FRACTION = 0.1  # of the limit; what runs leave, too


class StorageCap:
    """Deletes old runs and ended jobs while there are too many; does nothing without limits."""

    def __init__(self, store: Store, limits: Limits, delete_job: Callable[[str], None]) -> None:
        self._store, self._limits, self._delete_job = store, limits, delete_job
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
        """Delete what exceeds the limits, oldest first."""
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
            live = self._store.jobs.sizes(LIVE_STATUSES)
            ended, runs = self._store.jobs.sizes(ENDED_STATUSES), self._store.runs.sizes()
            of_jobs, of_runs = (
                sum(row.num_bytes for row in rows) for rows in ([*live, *ended], runs)
            )
            # The database takes half as much again as what is in it.
            most = SHRINK_TO * max_bytes * (of_jobs + of_runs) / used
            for_jobs = max(most - of_runs, JOBS_FRACTION * most)
            doomed = fair_choice(ended, math.ceil(of_jobs - for_jobs))
            for job_id in doomed:
                with suppress(NotFoundError, JobStateError):  # it goes on, or is deleted
                    self._delete_job(job_id)
            too_much = math.ceil(of_runs - max(most - of_jobs, (1 - JOBS_FRACTION) * most))
            if self._store.runs.delete_ended(fair_choice(runs, too_much)) == 0 and not doomed:
                return


def fair_choice(sizes: Sequence[StoredSize], num_bytes: int) -> list[str]:
    """The ids of runs, or jobs, to delete, ``num_bytes`` in all or ``MOST_AT_ONCE`` of them.

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
